"""The beat's side: each tick becomes one task of Celery's."""

from tasks import app


def handle(tick: str) -> None:
    """Sends the task that an entry of beat.toml is named after; the tick (`NAME@TIME`) is its id."""
    name, _, _ = tick.partition("@")
    app.send_task(name, task_id=tick)
