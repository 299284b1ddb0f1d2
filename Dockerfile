# One image for every role: FLEET_ROLE chooses what a container does.
FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements-runtime.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements-runtime.lock
RUN pip install --no-cache-dir "setuptools>=77"
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY agents agents
COPY tables tables
COPY loadtest loadtest
COPY bench bench
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip uninstall -y setuptools pip

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEET_DATA_DIR=/data \
    FLEET_WEB_HOST=0.0.0.0
RUN groupadd --gid 10001 fleet && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin fleet \
    && mkdir /data && chown 10001:10001 /data
USER 10001:10001
WORKDIR /tmp
VOLUME /data
EXPOSE 6066
# The worker handles SIGTERM itself: it finishes its rounds, closes its stores and leaves the group.
CMD ["faust", "-A", "app.main", "worker", "-l", "info"]
