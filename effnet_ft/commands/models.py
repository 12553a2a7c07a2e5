"""List the variants and their weights, or download weights ahead of time."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    text = "list the weights, one per line, with their preprocessing and accuracy"
    parser.add_argument("--weights", action="store_true", help=text)
    parser.add_argument("--markdown", action="store_true", help="print the page docs/models.md")
    text = "download these weights, e.g. b0/aa, or b0 for its default"
    parser.add_argument("--download", nargs="+", metavar="NAME", help=text)


def run(options: argparse.Namespace) -> int:
    from effnet_ft.models.catalogue import models_page, variants_text, weights_text

    if options.download:
        from effnet_ft.models.weights.download import weights_file
        from effnet_ft.models.weights.resolving import weights_named

        for record in [weights_named(name) for name in options.download]:  # check all names before the first download
            print(f"{record.name}: {weights_file(record)}")
    elif options.markdown:
        print(models_page(), end="")
    else:
        print(weights_text() if options.weights else variants_text())
    return 0
