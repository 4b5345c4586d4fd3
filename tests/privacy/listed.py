"""The mutants of the mechanism, and the tests that must notice each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import broken
import broken_dygraph
import pytest

STEP = "tests/compiler/test_private_step.py::test_step_equals_the_algorithm"
PAIRS = "tests/privacy/test_neighbours.py::test_one_bit_of_the_mask_moves_the_sums_by_at_most_c"
WIDE = "tests/privacy/test_noise_law.py::test_wide_tensors"
NARROW = "tests/privacy/test_noise_law.py::test_narrow_tensors_over_many_steps"
UNTOUCHED = "tests/privacy/test_noise_law.py::test_untouched_rows_of_a_table_get_noise"
REUSE = "tests/privacy/test_no_reuse.py::"
LOTS = "tests/privacy/test_update.py::test_lots_of_any_size"
DIVISOR = "tests/privacy/test_update.py::test_the_divisor_is_the_stated_lot"
STEPPER = "tests/runtime/test_stepper.py::test_a_lot_of_any_size_gives_the_update_of_its_own_rows"
SAMPLER = "tests/runtime/test_sampler.py::"
KEYSTREAM = "tests/runtime/test_keystream.py::"
REFUSED = "tests/privacy/test_separability.py::test_refused"
KEPT = "tests/privacy/test_data_dependent.py::"
DYGRAPH = "tests/privacy/test_dygraph_steps.py::"
UNPROVED = "tests/privacy/test_dygraph_refused.py::"
NORMS = "tests/compiler/test_norm_rules.py::"


@dataclass(frozen=True)
class Mutant:
    """A way to break the mechanism.

    Attributes:
        name: what it does.
        patch: the change.
        tests: each of them must fail under the change, the verifier being off.
        refused: part of what the compiler says of the module that ``patch`` writes; empty where it cannot see it.
        program: what is compiled with the verifier on, of the ``PROGRAMS`` of mutants.py.
        quick: it runs with the ordinary tests.
        measured: the change under which the tests run, where that of ``patch`` cannot be compiled even then.
    """

    name: str
    patch: Callable[[pytest.MonkeyPatch], None]
    tests: tuple[str, ...]
    refused: str = ""
    program: str = "mlp"
    quick: bool = False
    measured: Callable[[pytest.MonkeyPatch], None] | None = None


PAIRS_OF_MLP = (f"{PAIRS}[mlp-reference]", f"{PAIRS}[mlp-cpu]")

MUTANTS: tuple[Mutant, ...] = (
    Mutant("no clip", broken.no_clip, (f"{STEP}[0.0-11]", *PAIRS_OF_MLP)),
    Mutant("batch clip", broken.batch_clip, (f"{STEP}[0.0-11]", *PAIRS_OF_MLP), "states clip"),
    Mutant("noise/B", broken.noise_over_the_batch, (f"{STEP}[0.0-11]", f"{NARROW}[cpu-apply-False]"), "states sigma"),
    Mutant(
        "noise×½",
        broken.half_the_noise,
        (f"{NARROW}[reference-apply-False]", f"{NARROW}[cpu-step-False]", f"{NARROW}[onnx-step-False]"),
    ),
    Mutant(
        "key reused",
        broken.one_key,
        (f"{REUSE}test_steps_sessions_and_states_that_are_put_back", f"{REUSE}test_training_draws_what_it_counted"),
    ),
    Mutant("own C per tensor", broken.own_bound_per_tensor, PAIRS_OF_MLP, "its norm covers"),
    Mutant("seed by time", broken.key_of_the_time, (f"{REUSE}test_training_draws_what_it_counted",)),
    Mutant(
        "scalar noise",
        broken.scalar_noise,
        (f"{WIDE}[cpu-apply-False]", f"{WIDE}[reference-apply-False]", f"{WIDE}[onnx-apply-False]"),
    ),
    Mutant(
        "words fed again",
        broken.words_fed_again,
        (f"{WIDE}[onnx-step-False]", f"{REUSE}test_steps_sessions_and_states_that_are_put_back[onnx]"),
    ),
    Mutant(
        "division by the actual lot",
        broken.divided_by_the_actual_lot,
        (f"{STEP}[0.0-11]", f"{DIVISOR}[reference]"),
        "is written a value that is mixed",
        measured=broken.divided_by_live_rows,
    ),
    Mutant(
        "no noise on an empty lot",
        broken.quiet_empty_lot,
        (f"{STEPPER}[LinearEngine-0-calls0]", f"{LOTS}[0-cpu]"),
        quick=True,
    ),
    Mutant(
        "tied weights summed as independent norms²",
        broken.tied_norms_apart,
        (f"{NORMS}test_norms_by_every_rule[tied-]", f"{PAIRS}[auto_encoder-cpu]"),
        "smaller than that of the gradient",
        program="tied",
    ),
    Mutant("c_i·Inf instead of select", broken.multiplied_not_selected, (f"{STEP}[inf-11]", *PAIRS_OF_MLP)),
    Mutant(
        "noise per micro-batch", broken.noise_per_micro_batch, (f"{STEPPER}[LinearEngine-8-calls4]", f"{LOTS}[48-cpu]")
    ),
    Mutant(
        "noise before the last accumulate",
        broken.noise_before_the_last_accumulate,
        (f"{STEPPER}[LinearEngine-11-calls5]", f"{LOTS}[33-reference]"),
        quick=True,
    ),
    Mutant(
        "key reused after a retried step",
        broken.key_kept_for_a_retry,
        (f"{REUSE}test_a_step_that_fails_and_is_taken_again[step-reference]",),
        quick=True,
    ),
    Mutant(
        "counter restart on resume",
        broken.draws_begin_again,
        (f"{REUSE}test_a_run_that_fails_in_a_step_and_begins_again[8]",),
    ),
    Mutant("shared bits of two tensors", broken.shared_bits, (f"{WIDE}[cpu-apply-False]", f"{STEP}[0.0-11]"), "belong"),
    Mutant(
        "b_i without −½",
        broken.votes_without_the_half,
        ("tests/compiler/test_clipping.py::test_a_step_is_the_formula[1-0.0-quantile]",),
        quick=True,
    ),
    Mutant(
        "q from len(data)",
        broken.rate_from_the_data,
        (f"{SAMPLER}test_the_stored_constants_choose_the_private_sampler",),
        quick=True,
    ),
    Mutant(
        "truncated lot",
        broken.truncated_lots,
        (f"{SAMPLER}test_poisson_inclusion_pairs_and_lot_sizes_follow_the_law",),
    ),
    Mutant("1/N of the physical batch", broken.divided_by_the_physical_batch, (f"{DIVISOR}[reference]",)),
    Mutant(
        "running batch statistics into state",
        broken.running_statistics_written,
        (f"{KEPT}test_running_statistics_of_a_batch", f"{KEPT}test_values_kept_from_step_to_step[smoothed]"),
        "is written a value that is mixed",
        program="batch_norm",
    ),
    Mutant("embedding noise on touched rows", broken.touched_rows_only, (UNTOUCHED, f"{WIDE}[reference-apply-False]")),
    Mutant(
        "stop_gradient accepted as public",
        broken.stop_gradient_is_public,
        (f"{REFUSED}[detached batch mean]",),
        "is not kept apart by examples",
        program="detached",
    ),
    Mutant(
        "reserve after the step",
        broken.reserve_after_the_step,
        ("tests/runtime/test_session.py::test_every_lot_is_counted_on_disk_before_it_is_drawn",),
        quick=True,
    ),
    Mutant(
        "fsync dropped",
        broken.no_fsync,
        ("tests/runtime/test_ledger.py::test_a_reservation_is_durable_before_step_returns",),
        quick=True,
    ),
    Mutant(
        "Gram without guard",
        broken.gram_without_guard,
        (f"{NORMS}test_no_adversary_gets_more_than_the_clip[nothing is left-reference-gram]",),
    ),
    Mutant(
        "−log(U) with a float32 uniform",
        broken.logarithm_of_single_precision,
        (
            f"{KEYSTREAM}test_radius_at_its_extremes",
            f"{KEYSTREAM}test_float32_stays_within_1e_6_of_the_arbiter_and_is_never_zero",
        ),
        quick=True,
    ),
    Mutant(
        "onnx: words of the last step",
        broken.words_of_the_last_step,
        (
            f"{NARROW}[onnx-step-False]",
            "tests/runtime/test_onnx_engine.py::test_streams_hold_the_words_of_their_key_draw_domain_and_tensor",
        ),
    ),
    Mutant(
        "onnx: tensors of one size share a stream",
        broken.shared_stream,
        ("tests/ops/test_onnx_random.py::test_what_is_drawn_twice_is_made_once_and_what_differs_never_shares",),
        quick=True,
    ),
    Mutant("onnx: product though a row is not finite", broken.product_whatever_the_rows, (f"{PAIRS}[mlp-onnx]",)),
    Mutant(
        "dygraph: a function of its own in every step",
        broken_dygraph.any_function,
        (
            f"{UNPROVED}test_another_computation_than_in_the_first_step[by_the_length-]",
            f"{UNPROVED}test_a_number_that_was_fed_because_it_changes_is_still_seen_to_change",
        ),
    ),
    Mutant(
        "dygraph: values of unknown origin",
        broken_dygraph.any_origin,
        (f"{UNPROVED}test_losses_that_are_not_sums_over_examples[looked_at--]",),
    ),
    Mutant(
        "dygraph: raw gradients by grad",
        broken_dygraph.raw_gradients,
        (f"{UNPROVED}test_grad_through_private_parameters",),
    ),
    Mutant(
        "dygraph: nothing said of gradients that there are not",
        broken_dygraph.not_withheld,
        (f"{UNPROVED}test_only_the_parameters_that_are_trained_get_gradients",),
    ),
    Mutant(
        "dygraph: examples kept beside the gradient",
        broken_dygraph.kept_examples,
        (f"{UNPROVED}test_a_value_of_the_examples_kept_for_the_next_step[False]",),
    ),
    Mutant(
        "dygraph: the copy of a lot",
        broken_dygraph.copies_of_the_lot,
        (f"{DYGRAPH}test_a_step_reads_the_lot_and_not_the_copy_that_the_caller_has",),
    ),
    Mutant(
        "dygraph: a lot in part",
        broken_dygraph.any_lot,
        (f"{DYGRAPH}test_what_is_not_the_lot_itself_ends_epsilon[one array]",),
    ),
    Mutant(
        "dygraph: one mask",
        broken_dygraph.one_mask,
        (f"{DYGRAPH}test_dropout_of_a_private_step_comes_from_its_key",),
    ),
)
