"""The command line. Thin: every command calls one public function."""

from gradnas.cli.entry import main as main
