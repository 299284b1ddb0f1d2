# One image for every role: FLEET_ROLE chooses what a container does.
FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements-runtime.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY agents agents
COPY tables tables
COPY loadtest loadtest
COPY bench bench
COPY chaos chaos
COPY simulation simulation
# Built by the setuptools of the lock: dependencies require it as well, so it stays; pip does not.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check && pip uninstall -y pip

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEET_DATA_DIR=/data \
    FLEET_WEB_HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 fleet && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin fleet \
    && mkdir /data && chown 10001:10001 /data
USER 10001:10001
# Faust looks for modules in the working directory first: nobody may write here.
WORKDIR /opt/venv
# All that is ever written is below /data (and /tmp, where a library wants it): the root file system may be read-only.
VOLUME /data
EXPOSE 6066
# No init is needed: the worker starts no processes, and on SIGTERM finishes its rounds, closes its stores and leaves the
# group.
CMD ["faust", "-A", "app.main", "worker", "-l", "info"]
