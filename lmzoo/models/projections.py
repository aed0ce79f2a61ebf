"""Several linear maps of one input, as one product or each on its own.

One wide product keeps a processor busier than several narrow ones. The function is the
same: the rows of the wide matrix are those of the narrow ones, one under the other.
"""

from torch import Tensor, nn


class JointLinear(nn.Linear):
    """A linear map whose outputs have several uses.

    Args:
        d_in: width of the input.
        parts: name -> width of the outputs that serve it, in order.
        bias: add a learned number to each output.
    """

    def __init__(self, d_in: int, parts: dict[str, int], bias: bool) -> None:
        super().__init__(d_in, sum(parts.values()), bias=bias)
        self.parts = dict(parts)


class Projections(nn.Module):
    """One input to the named outputs, (..., D) -> several (..., width).

    Args:
        d_in: width of the input, D.
        parts: name -> width of each output.
        bias: add biases.
        fused: one matrix for all; else one for each.
    """

    def __init__(
        self, d_in: int, parts: dict[str, int], *, bias: bool, fused: bool
    ) -> None:
        super().__init__()
        self.widths = list(parts.values())
        groups = (
            {"joint": parts} if fused else {name: {name: parts[name]} for name in parts}
        )
        for name, group in groups.items():
            self.add_module(name, JointLinear(d_in, group, bias))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(..., D) -> a tensor (..., width) for each name; views of one if fused."""
        outputs = [one(x) for one in self.children()]
        return (
            outputs[0].split(self.widths, -1) if len(outputs) == 1 else tuple(outputs)
        )
