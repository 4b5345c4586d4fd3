"""Slots and types of attributes of Paddle 1.8.5's ops: what a ProgramDesc may say of each.

The table is written by ``tests/frontend/program_desc/make_op_protos.py``, which asks Paddle. Attributes that only
choose a kernel are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .attributes import AttrType


@dataclass(frozen=True)
class OpProto:
    """What Paddle declares of one op type.

    Attributes:
        inputs: Its input slots.
        outputs: Its output slots.
        attrs: Its attributes with their types.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, AttrType]


@cache
def op_protos() -> Mapping[str, OpProto]:
    """What is declared, by op type."""
    found: dict[str, OpProto] = {}
    for line in _TABLE.strip().replace("\n    ", " ").splitlines():
        name, rest = line.split(":", 1)
        slots, _, attrs = rest.partition(";")
        ins, _, outs = slots.partition(">")
        types = (word.split("=") for word in attrs.split())
        found[name] = OpProto(tuple(ins.split()), tuple(outs.split()), {attr: AttrType[kind] for attr, kind in types})
    return found


_TABLE = """
abs: X > Out
accuracy: Out Indices Label > Accuracy Correct Total
acos: X > Out
adadelta: Param Grad AvgSquaredGrad AvgSquaredUpdate > ParamOut AvgSquaredGradOut AvgSquaredUpdateOut ; rho=FLOAT
    epsilon=FLOAT
adagrad: Param Grad Moment LearningRate > ParamOut MomentOut ; epsilon=FLOAT
adam: Param Grad LearningRate Moment1 Moment2 Beta1Pow Beta2Pow Beta1Tensor Beta2Tensor > ParamOut Moment1Out
    Moment2Out Beta1PowOut Beta2PowOut ; beta1=FLOAT beta2=FLOAT epsilon=FLOAT lazy_mode=BOOLEAN
    min_row_size_to_use_multithread=LONG
adamax: Param Grad LearningRate Moment InfNorm Beta1Pow > ParamOut MomentOut InfNormOut ; beta1=FLOAT beta2=FLOAT
    epsilon=FLOAT
add_position_encoding: X > Out ; alpha=FLOAT beta=FLOAT
addmm: Input X Y > Out ; Alpha=FLOAT Beta=FLOAT
affine_channel: X Scale Bias > Out ; data_layout=STRING
affine_grid: Theta OutputShape > Output ; output_shape=INTS
allclose: Input Other > Out ; rtol=FLOAT atol=FLOAT equal_nan=BOOLEAN
anchor_generator: Input > Anchors Variances ; anchor_sizes=FLOATS aspect_ratios=FLOATS variances=FLOATS stride=FLOATS
    offset=FLOAT
arg_max: X > Out ; axis=LONG keepdims=BOOLEAN dtype=INT
arg_min: X > Out ; axis=LONG keepdims=BOOLEAN dtype=INT
argsort: X > Out Indices ; axis=INT descending=BOOLEAN
array_to_lod_tensor: X RankTable > Out
asin: X > Out
assign: X > Out
assign_value: > Out ; shape=INTS dtype=INT bool_values=INTS fp32_values=FLOATS int32_values=INTS int64_values=LONGS
atan: X > Out
auc: Predict Label StatPos StatNeg > AUC StatPosOut StatNegOut ; curve=STRING num_thresholds=INT slide_steps=INT
average_accumulates: param in_sum_1 in_sum_2 in_sum_3 in_num_accumulates in_old_num_accumulates in_num_updates >
    out_sum_1 out_sum_2 out_sum_3 out_num_accumulates out_old_num_accumulates out_num_updates ; average_window=FLOAT
    max_average_window=LONG min_average_window=LONG
batch_norm: X Scale Bias Mean Variance MomentumTensor > Y MeanOut VarianceOut SavedMean SavedVariance ReserveSpace ;
    is_test=BOOLEAN momentum=FLOAT epsilon=FLOAT data_layout=STRING fuse_with_relu=BOOLEAN use_global_stats=BOOLEAN
    trainable_statistics=BOOLEAN
bce_loss: X Label > Out
beam_search: pre_ids pre_scores ids scores > selected_ids selected_scores parent_idx ; level=INT beam_size=INT
    end_id=INT is_accumulated=BOOLEAN
beam_search_decode: Ids Scores > SentenceIds SentenceScores ; beam_size=INT end_id=INT
bicubic_interp: X OutSize SizeTensor Scale > Out ; data_layout=STRING out_d=INT out_h=INT out_w=INT scale=FLOAT
    interp_method=STRING align_corners=BOOLEAN align_mode=INT
bilinear_interp: X OutSize SizeTensor Scale > Out ; data_layout=STRING out_d=INT out_h=INT out_w=INT scale=FLOAT
    interp_method=STRING align_corners=BOOLEAN align_mode=INT
bilinear_tensor_product: X Y Weight Bias > Out
bipartite_match: DistMat > ColToRowMatchIndices ColToRowMatchDist ; match_type=STRING dist_threshold=FLOAT
bmm: X Y > Out
box_coder: PriorBox PriorBoxVar TargetBox > OutputBox ; code_type=STRING box_normalized=BOOLEAN axis=INT
    variance=FLOATS
bpr_loss: X Label > Y
brelu: X > Out ; t_min=FLOAT t_max=FLOAT
cast: X > Out ; out_dtype=INT in_dtype=INT
ceil: X > Out
center_loss: X Label Centers CenterUpdateRate > CentersOut SampleCenterDiff Loss ; cluster_num=INT need_update=BOOLEAN
chunk_eval: Inference Label SeqLength > Precision Recall F1-Score NumInferChunks NumLabelChunks NumCorrectChunks ;
    num_chunk_types=INT chunk_scheme=STRING excluded_chunk_types=INTS
clip: X Min Max > Out ; min=FLOAT max=FLOAT
clip_by_norm: X > Out ; max_norm=FLOAT
concat: X AxisTensor > Out ; axis=INT
conditional_block: Cond Input > Out Scope ; sub_block=BLOCK is_scalar_condition=BOOLEAN
conv2d: Input Filter Bias ResidualData > Output ; is_test=BOOLEAN strides=INTS paddings=INTS padding_algorithm=STRING
    groups=INT dilations=INTS fuse_relu_before_depthwise_conv=BOOLEAN fuse_relu=BOOLEAN fuse_brelu=BOOLEAN
    fuse_brelu_threshold=FLOAT fuse_activation=STRING fuse_alpha=FLOAT fuse_beta=FLOAT
    fuse_residual_connection=BOOLEAN Scale_in=FLOAT Scale_out=FLOAT Scale_in_eltwise=FLOAT Scale_weights=FLOATS
    force_fp32_output=BOOLEAN data_format=STRING
conv2d_transpose: Input Filter Bias > Output ; is_test=BOOLEAN output_size=INTS groups=INT dilations=INTS strides=INTS
    paddings=INTS fuse_relu=BOOLEAN fuse_activation=STRING fuse_alpha=FLOAT fuse_beta=FLOAT data_format=STRING
    padding_algorithm=STRING
conv3d: Input Filter ResidualData > Output ; is_test=BOOLEAN strides=INTS paddings=INTS padding_algorithm=STRING
    groups=INT dilations=INTS fuse_relu=BOOLEAN fuse_activation=STRING fuse_alpha=FLOAT fuse_beta=FLOAT
    fuse_residual_connection=BOOLEAN data_format=STRING force_fp32_output=BOOLEAN
conv3d_transpose: Input Filter > Output ; output_size=INTS dilations=INTS strides=INTS paddings=INTS groups=INT
    data_format=STRING padding_algorithm=STRING
conv_shift: X Y > Out
cos: X > Out
cos_sim: X Y > Out XNorm YNorm
create_double_buffer_reader: UnderlyingReader > Out ; place=STRING
create_py_reader: blocking_queue > Out ; shape_concat=INTS ranks=INTS lod_levels=INTS dtypes=INTS need_check_feed=INTS
    use_data_config=BOOLEAN device_index=INT device_count=INT
crf_decoding: Emission Transition Label Length > ViterbiPath
crop: X Y Offsets > Out ; offsets=INTS shape=INTS
crop_tensor: X Shape Offsets ShapeTensor OffsetsTensor > Out ; offsets=INTS shape=INTS
cross: X Y > Out ; dim=INT
cross_entropy2: X Label > Y XShape MatchX ; ignore_index=INT
cross_entropy: X Label > Y ; soft_label=BOOLEAN ignore_index=INT
ctc_align: Input InputLength > Output OutputLength ; blank=INT merge_repeated=BOOLEAN padding_value=INT
cudnn_lstm: Input InitH InitC W Cache > Out last_h last_c ; max_len=INT dropout_prob=FLOAT is_bidirec=BOOLEAN
    input_size=INT hidden_size=INT num_layers=INT is_test=BOOLEAN seed=INT
cumsum: X > Out ; axis=INT exclusive=BOOLEAN reverse=BOOLEAN
data_norm: scale_w bias X BatchSize BatchSum BatchSquareSum > Y Means Scales ; epsilon=FLOAT slot_dim=INT
    summary_decay_rate=FLOAT enable_scale_and_shift=BOOLEAN data_layout=STRING sync_stats=BOOLEAN
decayed_adagrad: Param Grad Moment LearningRate > ParamOut MomentOut ; decay=FLOAT epsilon=FLOAT
density_prior_box: Input Image > Boxes Variances ; variances=FLOATS clip=BOOLEAN flatten_to_2d=BOOLEAN step_w=FLOAT
    step_h=FLOAT offset=FLOAT fixed_sizes=FLOATS fixed_ratios=FLOATS densities=INTS
depthwise_conv2d: Input Filter Bias ResidualData > Output ; is_test=BOOLEAN strides=INTS paddings=INTS
    padding_algorithm=STRING groups=INT dilations=INTS fuse_relu_before_depthwise_conv=BOOLEAN fuse_relu=BOOLEAN
    fuse_brelu=BOOLEAN fuse_brelu_threshold=FLOAT fuse_activation=STRING fuse_alpha=FLOAT fuse_beta=FLOAT
    fuse_residual_connection=BOOLEAN Scale_in=FLOAT Scale_out=FLOAT Scale_in_eltwise=FLOAT Scale_weights=FLOATS
    force_fp32_output=BOOLEAN data_format=STRING
depthwise_conv2d_transpose: Input Filter Bias > Output ; is_test=BOOLEAN output_size=INTS groups=INT dilations=INTS
    strides=INTS paddings=INTS fuse_relu=BOOLEAN fuse_activation=STRING fuse_alpha=FLOAT fuse_beta=FLOAT
    data_format=STRING padding_algorithm=STRING
detection_map: DetectRes Label HasState PosCount TruePos FalsePos > AccumPosCount AccumTruePos AccumFalsePos MAP ;
    class_num=INT background_label=INT overlap_threshold=FLOAT evaluate_difficult=BOOLEAN ap_type=STRING
diag: Diagonal > Out
diag_embed: Input > Out ; offset=INT dim1=INT dim2=INT
dist: X Y > Out ; p=FLOAT
dot: X Y > Out
dpsgd: Param Grad LearningRate > ParamOut ; clip=FLOAT batch_size=FLOAT sigma=FLOAT seed=INT
dropout: X Seed > Out Mask ; dropout_prob=FLOAT is_test=BOOLEAN fix_seed=BOOLEAN seed=INT
    dropout_implementation=STRING
edit_distance: Hyps Refs HypsLength RefsLength > SequenceNum Out ; normalized=BOOLEAN
elementwise_add: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_div: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_floordiv: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_max: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_min: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_mod: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_mul: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_pow: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elementwise_sub: X Y > Out ; axis=INT x_data_format=STRING y_data_format=STRING
elu: X > Out ; alpha=FLOAT
equal: X Y > Out ; axis=INT force_cpu=BOOLEAN
equal_reduce: X Y > Out ; axis=INT
erf: X > Out
exp: X > Out
expand: X ExpandTimes expand_times_tensor > Out ; expand_times=INTS
expand_as: X target_tensor > Out
eye: > Out ; dtype=INT num_rows=LONG num_columns=LONG
fc: Input W Bias > Out ; in_num_col_dims=INT activation_type=STRING padding_weights=BOOLEAN Scale_in=FLOAT
    Scale_weights=FLOATS Scale_out=FLOAT force_fp32_output=BOOLEAN
feed: X > Out ; col=INT
fetch: X > Out ; col=INT
fill: > Out ; value=FLOATS shape=INTS dtype=INT force_cpu=BOOLEAN
fill_any_like: X > Out ; value=FLOAT dtype=INT
fill_constant: ValueTensor ShapeTensor ShapeTensorList > Out ; dtype=INT shape=LONGS value=FLOAT str_value=STRING
    force_cpu=BOOLEAN
fill_constant_batch_size_like: Input > Out ; shape=INTS input_dim_idx=INT output_dim_idx=INT dtype=INT value=FLOAT
    str_value=STRING force_cpu=BOOLEAN
fill_zeros_like2: X > Out ; dtype=INT
fill_zeros_like: X > Out
flatten2: X > Out XShape ; axis=INT
flatten: X > Out ; axis=INT
flip: X > Out ; dims=INTS
floor: X > Out
frobenius_norm: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
fsp: X Y > Out
ftrl: Param SquaredAccumulator LinearAccumulator Grad LearningRate > ParamOut SquaredAccumOut LinearAccumOut ;
    l1=FLOAT l2=FLOAT lr_power=FLOAT
gather: X Index > Out ; overwrite=BOOLEAN
gather_nd: X Index > Out
gather_tree: Ids Parents > Out
gaussian_random: ShapeTensor ShapeTensorList > Out ; shape=LONGS mean=FLOAT std=FLOAT seed=INT dtype=INT
gaussian_random_batch_size_like: Input > Out ; shape=INTS input_dim_idx=INT output_dim_idx=INT mean=FLOAT std=FLOAT
    seed=INT dtype=INT
gelu: X > Out ; approximate=BOOLEAN
generate_mask_labels: ImInfo GtClasses IsCrowd GtSegms Rois LabelsInt32 > MaskRois RoiHasMaskInt32 MaskInt32 ;
    num_classes=INT resolution=INT
get_tensor_from_selected_rows: X > Out
greater_equal: X Y > Out ; axis=INT force_cpu=BOOLEAN
greater_than: X Y > Out ; axis=INT force_cpu=BOOLEAN
grid_sampler: X Grid > Output
group_norm: X Scale Bias > Y Mean Variance ; epsilon=FLOAT groups=INT data_layout=STRING
gru: Input H0 Weight Bias > BatchGate BatchResetHiddenPrev BatchHidden Hidden ; activation=STRING
    gate_activation=STRING is_reverse=BOOLEAN origin_mode=BOOLEAN
gru_unit: Input HiddenPrev Weight Bias > Gate ResetHiddenPrev Hidden ; activation=INT gate_activation=INT
    origin_mode=BOOLEAN
hard_shrink: X > Out ; threshold=FLOAT
hard_sigmoid: X > Out ; slope=FLOAT offset=FLOAT
hard_swish: X > Out ; threshold=FLOAT scale=FLOAT offset=FLOAT
hash: X > Out ; num_hash=INT mod_by=LONG
hierarchical_sigmoid: X W Label PathTable PathCode Bias > Out PreOut W_Out ; num_classes=INT is_sparse=BOOLEAN
hinge_loss: Logits Labels > Loss
huber_loss: X Y > Residual Out ; delta=FLOAT
im2sequence: X Y > Out ; kernels=INTS strides=INTS paddings=INTS out_stride=INTS
increment: X > Out ; step=FLOAT
index_sample: X Index > Out
index_select: X Index > Out ; dim=INT
instance_norm: X Scale Bias > Y SavedMean SavedVariance ; epsilon=FLOAT
iou_similarity: X Y > Out ; box_normalized=BOOLEAN
is_empty: X > Out
isfinite: X > Out
isinf: X > Out
isnan: X > Out
kldiv_loss: X Target > Loss ; reduction=STRING
kron: X Y > Out
l1_norm: X > Out
label_smooth: X PriorDist > Out ; epsilon=FLOAT
lamb: Param Grad LearningRate Moment1 Moment2 Beta1Pow Beta2Pow > ParamOut Moment1Out Moment2Out ; weight_decay=FLOAT
    beta1=FLOAT beta2=FLOAT epsilon=FLOAT
lars_momentum: Param Grad Velocity LearningRate > ParamOut VelocityOut ; mu=FLOAT lars_coeff=FLOAT
    lars_weight_decay=FLOAT
layer_norm: X Scale Bias > Y Mean Variance ; epsilon=FLOAT begin_norm_axis=INT
leaky_relu: X > Out ; alpha=FLOAT
less_equal: X Y > Out ; axis=INT force_cpu=BOOLEAN
less_than: X Y > Out ; axis=INT force_cpu=BOOLEAN
linear_chain_crf: Emission Transition Label Length > Alpha EmissionExps TransitionExps LogLikelihood
linspace: Start Stop Num > Out
lod_array_length: X > Out
lod_rank_table: X > Out ; level=INT
lod_reset: X Y > Out ; target_lod=INTS append=BOOLEAN
lod_tensor_to_array: X RankTable > Out
log1p: X > Out
log: X > Out
log_loss: Predicted Labels > Loss ; epsilon=FLOAT
logical_and: X Y > Out
logical_not: X > Out
logical_or: X Y > Out
logical_xor: X Y > Out
logsigmoid: X > Out
lookup_table: W Ids > Out ; is_sparse=BOOLEAN is_distributed=BOOLEAN padding_idx=LONG grad_inplace=BOOLEAN
lookup_table_v2: W Ids > Out ; is_sparse=BOOLEAN is_distributed=BOOLEAN padding_idx=LONG
lrn: X > Out MidOut ; n=INT k=FLOAT alpha=FLOAT beta=FLOAT data_format=STRING is_test=BOOLEAN
lstm: Input H0 C0 Weight Bias > Hidden Cell BatchGate BatchCellPreAct ; use_peepholes=BOOLEAN is_reverse=BOOLEAN
    gate_activation=STRING cell_activation=STRING candidate_activation=STRING
lstm_unit: X C_prev > C H ; forget_bias=FLOAT
lstmp: Input H0 C0 Weight ProjWeight Bias > Projection Cell BatchGate BatchCellPreAct BatchHidden ;
    use_peepholes=BOOLEAN is_reverse=BOOLEAN cell_clip=FLOAT proj_clip=FLOAT gate_activation=STRING
    cell_activation=STRING candidate_activation=STRING proj_activation=STRING
margin_rank_loss: X1 X2 Label > Activated Out ; margin=FLOAT
matmul: X Y > Out ; transpose_X=BOOLEAN transpose_Y=BOOLEAN alpha=FLOAT fused_reshape_Out=INTS
    fused_transpose_Out=INTS Scale_x=FLOAT Scale_y=FLOAT Scale_out=FLOAT force_fp32_output=BOOLEAN head_number=INT
max_pool2d_with_index: X > Out Mask ; ksize=INTS global_pooling=BOOLEAN adaptive=BOOLEAN strides=INTS paddings=INTS
max_pool3d_with_index: X > Out Mask ; ksize=INTS global_pooling=BOOLEAN adaptive=BOOLEAN strides=INTS paddings=INTS
max_sequence_len: RankTable > Out
maxout: X > Out ; groups=INT axis=INT
mean: X > Out
mean_iou: Predictions Labels InWrongs InCorrects InMeanIou > OutMeanIou OutWrong OutCorrect ; num_classes=INT
merge_lod_tensor: X Mask InTrue InFalse > Out ; level=INT
merge_selected_rows: X > Out
meshgrid: X > Out
mish: X > Out ; threshold=FLOAT
modified_huber_loss: X Y > IntermediateVal Out
momentum: Param Grad Velocity LearningRate > ParamOut VelocityOut ; mu=FLOAT use_nesterov=BOOLEAN
mul: X Y > Out ; x_num_col_dims=INT y_num_col_dims=INT scale_x=FLOAT scale_y=FLOATS scale_out=FLOAT
    force_fp32_output=BOOLEAN
multiclass_nms2: BBoxes Scores > Out Index ; background_label=INT score_threshold=FLOAT nms_top_k=INT
    nms_threshold=FLOAT nms_eta=FLOAT keep_top_k=INT normalized=BOOLEAN
multiclass_nms: BBoxes Scores > Out ; background_label=INT score_threshold=FLOAT nms_top_k=INT nms_threshold=FLOAT
    nms_eta=FLOAT keep_top_k=INT normalized=BOOLEAN
multiplex: Ids X > Out
nce: Input Label Weight Bias SampleWeight CustomDistProbs CustomDistAlias CustomDistAliasProbs > Cost SampleLogits
    SampleLabels ; num_total_classes=INT num_neg_samples=INT sampler=INT seed=INT is_sparse=BOOLEAN
    custom_neg_classes=INTS
nearest_interp: X OutSize SizeTensor Scale > Out ; data_layout=STRING out_d=INT out_h=INT out_w=INT scale=FLOAT
    interp_method=STRING align_corners=BOOLEAN align_mode=INT
nll_loss: X Label Weight > Out Total_weight ; ignore_index=LONG reduction=STRING
norm: X > Norm Out ; axis=INT epsilon=FLOAT
not_equal: X Y > Out ; axis=INT force_cpu=BOOLEAN
one_hot: X depth_tensor > Out ; depth=INT dtype=INT allow_out_of_range=BOOLEAN
one_hot_v2: X depth_tensor > Out ; depth=INT dtype=INT allow_out_of_range=BOOLEAN
p_norm: X > Out ; porder=FLOAT axis=INT epsilon=FLOAT keepdim=BOOLEAN
pad2d: X Paddings > Out ; paddings=INTS pad_value=FLOAT mode=STRING data_format=STRING
pad: X > Out ; paddings=INTS pad_value=FLOAT
pad_constant_like: X Y > Out ; pad_value=FLOAT
pixel_shuffle: X > Out ; upscale_factor=INT
polygon_box_transform: Input > Output
pool2d: X > Out ; pooling_type=STRING ksize=INTS global_pooling=BOOLEAN strides=INTS paddings=INTS exclusive=BOOLEAN
    adaptive=BOOLEAN ceil_mode=BOOLEAN data_format=STRING is_test=BOOLEAN padding_algorithm=STRING
pool3d: X > Out ; pooling_type=STRING ksize=INTS global_pooling=BOOLEAN strides=INTS paddings=INTS exclusive=BOOLEAN
    adaptive=BOOLEAN ceil_mode=BOOLEAN data_format=STRING padding_algorithm=STRING
positive_negative_pair: Score Label QueryID AccumulatePositivePair AccumulateNegativePair AccumulateNeutralPair Weight
    > PositivePair NegativePair NeutralPair ; column=INT
pow: X FactorTensor > Out ; factor=FLOAT
precision_recall: MaxProbs Indices Labels Weights StatesInfo > BatchMetrics AccumMetrics AccumStatesInfo ;
    class_number=INT
prelu: X Alpha > Out ; mode=STRING
print: In > Out ; first_n=INT message=STRING summarize=INT print_tensor_name=BOOLEAN print_tensor_type=BOOLEAN
    print_tensor_shape=BOOLEAN print_tensor_lod=BOOLEAN print_phase=STRING is_forward=BOOLEAN
prior_box: Input Image > Boxes Variances ; min_sizes=FLOATS max_sizes=FLOATS aspect_ratios=FLOATS variances=FLOATS
    flip=BOOLEAN clip=BOOLEAN step_w=FLOAT step_h=FLOAT offset=FLOAT min_max_aspect_ratios_order=BOOLEAN
proximal_adagrad: Param Moment Grad LearningRate > ParamOut MomentOut ; l1=FLOAT l2=FLOAT
proximal_gd: Param Grad LearningRate > ParamOut ; l1=FLOAT l2=FLOAT
randint: ShapeTensor ShapeTensorList > Out ; shape=LONGS low=INT high=INT dtype=INT seed=INT
random_crop: X Seed > Out SeedOut ; shape=INTS startup_seed=INT
randperm: > Out ; n=INT dtype=INT seed=INT
range: Start End Step > Out
rank_loss: Label Left Right > Out
read: Reader > Out ; throw_eof_exp=BOOLEAN infer_out=BOOLEAN drop_last=BOOLEAN
read_from_array: X I X_W > Out
reciprocal: X > Out
recurrent: inputs initial_states parameters > outputs step_scopes ; has_states=BOOLEAN ex_states=STRINGS
    states=STRINGS sub_block=BLOCK reverse=BOOLEAN is_train=BOOLEAN
reduce_all: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_any: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_max: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_mean: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_min: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_prod: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
reduce_sum: X > Out ; dim=INTS keep_dim=BOOLEAN reduce_all=BOOLEAN in_dtype=INT out_dtype=INT
relu6: X > Out ; threshold=FLOAT
relu: X > Out
reorder_lod_tensor_by_rank: X RankTable > Out
reshape2: X Shape ShapeTensor > Out XShape ; shape=INTS
reshape: X Shape ShapeTensor > Out ; shape=INTS
reverse: X > Out ; axis=INTS
rmsprop: Param MeanSquare MeanGrad LearningRate Grad Moment > ParamOut MomentOut MeanSquareOut MeanGradOut ;
    epsilon=FLOAT decay=FLOAT momentum=FLOAT centered=BOOLEAN
rnn_memory_helper: X > Out ; dtype=INT
roll: X > Out ; shifts=LONGS dims=LONGS
round: X > Out
row_conv: X Filter > Out
rsqrt: X > Out
sampling_id: X > Out ; min=FLOAT max=FLOAT seed=INT
scale: X ScaleTensor > Out ; scale=FLOAT bias=FLOAT bias_after_scale=BOOLEAN
scatter: X Ids Updates > Out ; overwrite=BOOLEAN
scatter_nd_add: X Index Updates > Out
seed: > Out ; seed=INT
select_input: X Mask > Out
select_output: X Mask > Out
selu: X > Out ; scale=FLOAT alpha=FLOAT
sequence_concat: X > Out
sequence_conv: X PaddingData Filter > Out ; paddingTrainable=BOOLEAN contextLength=INT contextStart=INT
    contextStride=INT
sequence_enumerate: X > Out ; win_size=INT pad_value=INT
sequence_erase: X > Out ; tokens=INTS
sequence_expand: X Y > Out ; ref_level=INT
sequence_expand_as: X Y > Out
sequence_mask: X MaxLenTensor > Y ; maxlen=INT out_dtype=INT
sequence_pad: X PadValue > Out Length ; padded_length=INT
sequence_pool: X > Out MaxIndex ; is_test=BOOLEAN pooltype=STRING pad_value=FLOAT
sequence_reshape: X > Out ; new_dim=INT
sequence_reverse: X > Y
sequence_scatter: X Ids Updates > Out
sequence_slice: X Offset Length > Out
sequence_softmax: X > Out ; data_format=STRING
sequence_unpad: X Length > Out
sgd: Param LearningRate Grad > ParamOut
shape: Input > Out
shard_index: X > Out ; index_num=INT nshards=INT shard_id=INT ignore_value=INT
shrink_rnn_memory: X RankTable I > Out
shuffle_batch: X Seed > Out ShuffleIdx SeedOut ; startup_seed=INT
shuffle_channel: X > Out ; group=INT
sigmoid: X > Out
sigmoid_cross_entropy_with_logits: X Label > Out ; normalize=BOOLEAN ignore_index=INT
sigmoid_focal_loss: X Label FgNum > Out ; gamma=FLOAT alpha=FLOAT
sign: X > Out
sin: X > Out
size: Input > Out
slice: Input StartsTensor EndsTensor StartsTensorList EndsTensorList > Out ; axes=INTS starts=INTS ends=INTS
    infer_flags=INTS decrease_axis=INTS
smooth_l1_loss: X Y InsideWeight OutsideWeight > Diff Out ; sigma=FLOAT
soft_relu: X > Out ; threshold=FLOAT
softmax: X > Out ; axis=INT data_format=STRING is_test=BOOLEAN
softmax_with_cross_entropy: Logits Label > Softmax Loss ; soft_label=BOOLEAN numeric_stable_mode=BOOLEAN
    ignore_index=INT axis=INT
softplus: X > Out
softshrink: X > Out ; lambda=FLOAT
softsign: X > Out
space_to_depth: X > Out ; blocksize=LONG
spectral_norm: Weight U V > Out ; dim=INT power_iters=INT eps=FLOAT
split: X AxisTensor SectionsTensorList > Out ; sections=INTS num=INT axis=INT
split_lod_tensor: X Mask > OutTrue OutFalse ; level=INT
spp: X > Out ; pyramid_height=INT pooling_type=STRING
sqrt: X > Out
square: X > Out
squared_l2_distance: X Y > sub_result Out
squared_l2_norm: X > Out
squeeze2: X > Out XShape ; axes=INTS
squeeze: X > Out ; axes=INTS
stack: X > Y ; axis=INT
stanh: X > Out ; scale_a=FLOAT scale_b=FLOAT
strided_slice: Input StartsTensor EndsTensor StridesTensor StartsTensorList EndsTensorList StridesTensorList > Out ;
    axes=INTS starts=INTS ends=INTS strides=INTS infer_flags=INTS decrease_axis=INTS
sum: X > Out
swish: X > Out ; beta=FLOAT
tanh: X > Out
tanh_shrink: X > Out
target_assign: X MatchIndices NegIndices > Out OutWeight ; mismatch_value=INT
teacher_student_sigmoid_loss: X Label > Y ; soft_max_up_bound=FLOAT soft_max_lower_bound=FLOAT
temporal_shift: X > Out ; seg_num=INT shift_ratio=FLOAT
tensor_array_to_tensor: X > Out OutIndex ; axis=INT use_stack=BOOLEAN
thresholded_relu: X > Out ; threshold=FLOAT
top_k: X K > Out Indices ; k=INT
trace: Input > Out ; offset=INT dim1=INT dim2=INT
transpose2: X > Out XShape ; axis=INTS data_format=STRING
transpose: X > Out ; axis=INTS data_format=STRING
tril_triu: X > Out ; diagonal=INT lower=BOOLEAN
trilinear_interp: X OutSize SizeTensor Scale > Out ; data_layout=STRING out_d=INT out_h=INT out_w=INT scale=FLOAT
    interp_method=STRING align_corners=BOOLEAN align_mode=INT
truncated_gaussian_random: > Out ; shape=INTS mean=FLOAT std=FLOAT seed=INT dtype=INT
unbind: X > Out ; axis=INT
unfold: X > Y ; kernel_sizes=INTS strides=INTS paddings=INTS dilations=INTS
uniform_random: ShapeTensor ShapeTensorList > Out ; shape=LONGS min=FLOAT max=FLOAT seed=INT diag_num=INT
    diag_step=INT diag_val=FLOAT dtype=INT
uniform_random_batch_size_like: Input > Out ; shape=INTS input_dim_idx=INT output_dim_idx=INT min=FLOAT max=FLOAT
    seed=INT diag_num=INT diag_step=INT diag_val=FLOAT dtype=INT
unique: X > Out Index ; dtype=INT
unique_with_counts: X > Out Index Count ; dtype=INT
unpool: X Indices > Out ; ksize=INTS strides=INTS paddings=INTS unpooling_type=STRING
unsqueeze2: X AxesTensor AxesTensorList > Out XShape ; axes=INTS
unsqueeze: X AxesTensor AxesTensorList > Out ; axes=INTS
unstack: X > Y ; axis=INT num=INT
warpctc: Logits Label LogitsLength LabelLength > WarpCTCGrad Loss ; blank=INT norm_by_times=BOOLEAN
where: Condition X Y > Out
where_index: Condition > Out
while: X Condition > Out StepScopes ; sub_block=BLOCK is_test=BOOLEAN
write_to_array: X I > Out
yolo_box: X ImgSize > Boxes Scores ; class_num=INT anchors=INTS downsample_ratio=INT conf_thresh=FLOAT
    clip_bbox=BOOLEAN scale_x_y=FLOAT
"""
