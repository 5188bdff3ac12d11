"""PgBouncer in transaction mode, where it is installed: each transaction may get another session."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.postgres import USER, Postgres
from tests.rig import eventually

PORT = 6432
"""Of a Unix socket: only its name."""
SESSIONS = 2


def program() -> str | None:
    """Return where PgBouncer is installed, None where it is not."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pooler(server: Postgres) -> Iterator[str]:
    """Run PgBouncer in front of `server`; yield the folder of its socket."""
    folder = server.folder / "pooler"
    folder.mkdir(mode=0o777, exist_ok=True)
    folder.chmod(0o777)
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{USER}" ""\n')
    settings.write_text(
        f"[databases]\n* = host={server.socket}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n"
        f"unix_socket_dir = {folder}\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
        f"default_pool_size = {SESSIONS}\nserver_reset_query_always = 1\nlogfile = {folder}/log\n"
    )
    found = program()
    assert found is not None
    process = subprocess.Popen(
        [found, settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **server.as_user
    )
    try:
        eventually(lambda: _answers(folder))
        yield str(folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def _answers(folder: Path) -> bool:
    try:
        psycopg.connect(
            f"host={folder} port={PORT} user={USER} dbname=postgres", prepare_threshold=None
        ).close()
    except psycopg.OperationalError:
        return False
    return True
