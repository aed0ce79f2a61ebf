"""``--trainer.strategy fsdp2``: sharded weights, and files that hold them whole.

Lightning's own ``ModelParallelStrategy`` with one dimension, over which both the data
and the weights are sharded. It differs in what it saves: the run's one file of plain
tensors, put together by all and written by the first process, so that a checkpoint says
nothing of how many processes there were, and any number goes on from it.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor
from torch.optim import Optimizer

from lmzoo.models.member import Member
from lmzoo.models.sharding import like, shard, whole_state


class FullySharded(ModelParallelStrategy):
    """FSDP2 for any member of the zoo: see ``lmzoo.models.sharding``."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The Trainer hands the optimizer's state to ``load_optimizer_state_dict``."""
        return True

    def setup_environment(self) -> None:
        """One dimension: every process has data of its own and a shard of weights."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Shard the weights, then build what works on the shards."""
        shard(self._member, self.device_mesh["data_parallel"])
        # the class above asks each model to do its own sharding
        Strategy.setup(self, trainer)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights; every process has to ask."""
        return whole_state(self._member.state_dict())

    def load_model_state_dict(
        self, checkpoint: Mapping[str, Any], strict: bool = True
    ) -> None:
        """Take the shards out of whole weights."""
        self._member.load_state_dict(checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state; every process has to ask."""
        return whole_state(getattr(optimizer, "_optimizer", optimizer).state_dict())

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the shards out of a whole state."""
        states = checkpoint["optimizer_states"]
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(_shards(optimizer, state))

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The whole file, read by every process through the run's own door."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    @property
    def _member(self) -> Member:
        assert isinstance(self.lightning_module, Member)
        return self.lightning_module


def _shards(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer with each tensor sharded as its parameter is."""
    stored = [i for group in state["param_groups"] for i in group["params"]]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    of = dict(zip(stored, held, strict=True))
    shards = {
        number: {
            key: like(value, of[number]) if isinstance(value, Tensor) else value
            for key, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    return {**state, "state": shards}
