"""Faust's own commands, where the engine's parts would not show in them. Defining a command replaces Faust's."""

from __future__ import annotations

from typing import Any

from faust.cli import AppCommand


class tables(AppCommand):
    """List the tables of this role's agents."""

    title = "Tables"
    headers = ("table", "agent", "changelog")

    async def run(self, *args: Any, **kwargs: Any) -> None:
        """Print one line per table."""
        app: Any = self.app
        rows = [
            (table.name, agent.name, app.fleet_topics.changelog(agent.name) if agent.logged else agent.sources[0])
            for agent in app.fleet_agents
            for table in agent.tables
        ]
        self.say(self.tabulate(rows, headers=self.headers, title=self.title))
