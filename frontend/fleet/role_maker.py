"""Who this process is among the trainers: the only one."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

from ..errors import unsupported


class Role(enum.IntEnum):
    """What a process does."""

    WORKER = 1
    SERVER = 2


class RoleMakerBase:
    """The one trainer, number 0, without servers.

    Args:
        workers: Their number, which the script or its environment states; fluid's 0 for "not told" is one.
        current_id: The number of this one.
        role: What this process does.

    Raises:
        UnsupportedError: More than one trainer, another number than 0, or a server.
    """

    def __init__(self, workers: int = 1, current_id: int = 0, role: Role = Role.WORKER) -> None:
        if workers > 1 or current_id != 0 or role != Role.WORKER:
            raise unsupported(
                f"{type(self).__name__}: {Role(role).name.lower()} {current_id} of {workers} trainers",
                "start one process without PADDLE_TRAINERS_NUM and TRAINING_ROLE; there is one trainer",
            )

    def generate_role(self) -> None:
        """Nothing is left to find out."""

    def is_worker(self) -> bool:
        """True: it trains."""
        return True

    def is_server(self) -> bool:
        """False: parameters live with the trainer."""
        return False

    def is_first_worker(self) -> bool:
        """True: there is no other."""
        return True

    def worker_num(self) -> int:
        """1."""
        return 1

    def worker_index(self) -> int:
        """0."""
        return 0

    def server_num(self) -> int:
        """0."""
        return 0

    def server_index(self) -> int:
        """0."""
        return 0

    def get_trainer_endpoints(self) -> list[str]:
        """The address under which fluid would have this trainer."""
        return ["127.0.0.1:6170"]

    def get_pserver_endpoints(self) -> list[str]:
        """No address."""
        return []


class PaddleCloudRoleMaker(RoleMakerBase):
    """What the environment says, as fluid's launcher sets it: PADDLE_TRAINERS_NUM, PADDLE_TRAINER_ID, TRAINING_ROLE."""

    def __init__(self, is_collective: bool = False) -> None:
        del is_collective
        told = os.environ.get
        server = told("TRAINING_ROLE", "TRAINER") == "PSERVER"
        super().__init__(
            int(told("PADDLE_TRAINERS_NUM", "1")),
            int(told("PADDLE_TRAINER_ID", "0")),
            Role.SERVER if server else Role.WORKER,
        )


class GeneralRoleMaker(PaddleCloudRoleMaker):
    """See `PaddleCloudRoleMaker`; the arguments are those of fluid's message passing."""

    def __init__(self, **kwargs: object) -> None:
        del kwargs
        super().__init__()


class UserDefinedRoleMaker(RoleMakerBase):
    """What the script says."""

    def __init__(
        self,
        current_id: int = 0,
        role: Role = Role.WORKER,
        worker_num: int = 0,
        server_endpoints: Sequence[str] | None = None,
    ) -> None:
        del server_endpoints
        super().__init__(worker_num, current_id, role)


class UserDefinedCollectiveRoleMaker(RoleMakerBase):
    """What the script says, for trainers without servers."""

    def __init__(self, current_id: int = 0, worker_endpoints: Sequence[str] | None = None) -> None:
        super().__init__(len(worker_endpoints or ()), current_id)


class MPISymetricRoleMaker(RoleMakerBase):
    """fluid's trainers and servers under MPI; refused."""

    def __init__(self) -> None:
        raise unsupported("MPISymetricRoleMaker finds trainers and servers by MPI", "use UserDefinedRoleMaker()")


__all__ = [
    "GeneralRoleMaker",
    "MPISymetricRoleMaker",
    "PaddleCloudRoleMaker",
    "Role",
    "RoleMakerBase",
    "UserDefinedCollectiveRoleMaker",
    "UserDefinedRoleMaker",
]
