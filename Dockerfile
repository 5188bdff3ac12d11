FROM python:3.13-slim

RUN useradd --create-home --uid 10001 outbox
WORKDIR /app

COPY requirements/service.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/service.txt

COPY pyproject.toml README.md ./
COPY src src
COPY config config
COPY worker worker
COPY tasks tasks
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && install -d -o outbox -g outbox -m 0700 /app/var

USER outbox
VOLUME /app/var
CMD ["python", "-m", "worker", "up"]
