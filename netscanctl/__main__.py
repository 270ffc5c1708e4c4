"""argv → command → exit code."""


def main() -> None:
    """Run the command that argv names; ends the process with its exit code."""
    from netscanctl.cli import cli

    cli.main(prog_name="netscanctl")


if __name__ == "__main__":
    main()
