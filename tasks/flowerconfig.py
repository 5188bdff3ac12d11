"""Flower's own configuration, which it executes: always behind a login, and back soon after its broker."""

import flower.app

from config import load_settings
from tasks.flower.adding import add_to_flower
from tasks.watching import Events
from worker.flower_login import flower_login

add_to_flower()
flower.app.Events = Events

_settings = load_settings()

basic_auth = [flower_login(_settings).basic_auth]
address = _settings.flower.address
port = _settings.flower.port
max_tasks = 20000
enable_events = False  # workers tell from the start, and it would ask them every few seconds
tasks_columns = "name,uuid,state,args,kwargs,retries,exception,runtime,received,worker"
