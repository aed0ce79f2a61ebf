import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lmzoo.models import attention
from lmzoo.models.attention import attend


def drawn(dtype: torch.dtype, groups: int = 4) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 4, 9, 8), (2, groups, 9, 8), (2, groups, 9, 8)]
    return [torch.randn(s).to(dtype).requires_grad_() for s in shapes]


def with_gradients(run, parts: list[Tensor]) -> list[Tensor]:
    attended = run(*parts)
    torch.manual_seed(1)
    attended.backward(torch.randn(attended.shape).to(attended.dtype))
    return [attended.detach(), *(part.grad for part in parts)]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("masked", ["causal", "mask", "none"])
def test_products_are_the_librarys_attention(groups: int, masked: str) -> None:
    mask = torch.rand(9, 9) < 0.7 if masked == "mask" else None
    if mask is not None:
        mask.fill_diagonal_(True)
    given = {"mask": mask, "causal": masked == "causal"}
    found = with_gradients(
        lambda *qkv: attend(*qkv, **given), drawn(torch.bfloat16, groups)
    )
    wanted = with_gradients(
        lambda *qkv: F.scaled_dot_product_attention(
            *qkv, attn_mask=mask, is_causal=masked == "causal", enable_gqa=True
        ),
        [
            part.detach().float().requires_grad_()
            for part in drawn(torch.bfloat16, groups)
        ],
    )
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - theirs).abs().max() < 0.02 * theirs.abs().max()
    if masked != "none":  # the control: another mask is noticed
        other = with_gradients(attend, drawn(torch.bfloat16, groups))
        assert (other[0].float() - wanted[0]).abs().max() > 0.1


def test_the_library_attends_wherever_it_is_quick(monkeypatch) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("by products")

    monkeypatch.setattr(attention, "_by_products", never)
    attend(*drawn(torch.float32))
    with torch.no_grad():
        attend(*drawn(torch.bfloat16))
    with pytest.raises(AssertionError, match="by products"):
        attend(*drawn(torch.bfloat16))
    monkeypatch.setattr(attention, "LONGEST", 8)
    attend(*drawn(torch.bfloat16))


def test_dropped_weights_leave_the_mean_as_it_is() -> None:
    q, k, v = drawn(torch.bfloat16)
    torch.manual_seed(2)
    kept = attend(q, k, v)
    runs = torch.stack([attend(q, k, v, dropout=0.5).float() for _ in range(400)])
    assert not torch.equal(runs[0], kept.float())
    assert (runs.mean(dim=0) - kept.float()).abs().mean() < 0.05
