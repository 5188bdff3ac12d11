"""Flower's own configuration, which it executes: always behind a login, on the configured address."""

from config import load_settings
from worker.flower_login import flower_login

_settings = load_settings()

basic_auth = [flower_login(_settings).basic_auth]
address = _settings.flower.address
port = _settings.flower.port
max_tasks = 20000
tasks_columns = "name,uuid,state,args,kwargs,retries,exception,runtime,received,worker"
