"""Commands as values: what to run, what it reads, what it may change, what to hide."""

from ops.commands.command import Command, Result, command, pipeline
from ops.commands.quoting import quote, quote_all
from ops.commands.redaction import Redactor
from ops.commands.secret import Secret

__all__ = ["Command", "Redactor", "Result", "Secret", "command", "pipeline", "quote", "quote_all"]
