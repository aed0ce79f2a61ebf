"""``lmzoo check``: prove that a model keeps the contract, law by law."""

from lmzoo.cli.options import Options
from lmzoo.registry import models


def run(argv: list[str]) -> int:
    """Print a report for each model; 1 if one breaks a law that it should keep."""
    parser = Options(
        "check",
        "Prove that models keep the contract: causal, the decoding state equal to the "
        "full pass, every parameter trained, and more. An exhibit must break the law "
        "that it says it breaks.",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="models of the zoo, or all"
    )
    parser.add_plugin()
    options = parser.read(argv)
    if options is None:
        return 0
    # torch is for the work, and not for the help
    from lmzoo.testing import check_model

    names = list(models.entries()[0]) if "all" in options.names else options.names
    for name in names:  # a wrong name fails before any work
        models.load(name)
    kept = True
    for name in names:
        report = check_model(name)
        print(report, flush=True)
        kept = kept and report.ok
    return 0 if kept else 1
