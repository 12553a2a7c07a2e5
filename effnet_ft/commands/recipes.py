"""List the recipes that come with the project."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the page docs/recipes.md, with every key")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a recipe, for editors")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.recipe.documentation import recipes_page, recipes_schema, recipes_text

    if options.markdown:
        print(recipes_page(), end="")
    elif options.schema:
        print(recipes_schema(), end="")
    else:
        print(recipes_text())
    return 0
