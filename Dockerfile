FROM python:3.13-slim-trixie AS build

RUN python -m venv --without-pip /opt/outbox
WORKDIR /build

COPY requirements/service.txt requirements/
RUN pip --python /opt/outbox/bin/python install --no-cache-dir --only-binary=:all: \
        --require-hashes -r requirements/service.txt

COPY pyproject.toml README.md ./
COPY src src
RUN pip --python /opt/outbox/bin/python install --no-cache-dir --no-deps --no-build-isolation .


FROM python:3.13-slim-trixie

RUN groupadd --gid 10001 outbox \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin outbox
ENV PATH=/opt/outbox/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

COPY --from=build /opt/outbox /opt/outbox
COPY config config
COPY worker worker
COPY tasks tasks
COPY simulator simulator
RUN python -m compileall -q config worker tasks simulator \
    && install -d -o outbox -g outbox -m 0700 var

USER 10001:10001
VOLUME /app/var
CMD ["python", "-m", "worker", "up"]
