# One image for every process of arcfleet; the command says which: docker run arcfleet worker --device archive-a
# Where packages come from is a matter of the machine: --build-arg PIP_INDEX_URL=... --build-arg PIP_TRUSTED_HOST=...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/arcfleet \
 && /opt/arcfleet/bin/pip install --require-hashes -r requirements.lock \
 && sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
 && python -m pip install --require-hashes -r build.lock
COPY pyproject.toml README.md ./
COPY config config
COPY archive archive
COPY tasks tasks
COPY workers workers
COPY api api
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/arcfleet/bin/pip install --no-deps dist/*.whl

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 arcfleet \
 && useradd --uid 10001 --gid arcfleet --no-create-home --home-dir /var/lib/arcfleet arcfleet \
 && install --directory --owner=arcfleet --group=arcfleet --mode=0700 /var/lib/arcfleet
COPY --from=build /opt/arcfleet /opt/arcfleet
ENV PATH=/opt/arcfleet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ARCFLEET_HOME=/var/lib/arcfleet \
    ARCFLEET_LOG_FORMAT=json
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/arcfleet
STOPSIGNAL SIGTERM
ENTRYPOINT ["arcfleet"]
CMD ["--help"]
