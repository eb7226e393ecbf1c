# One image for every service but the database; compose.yaml says which of them a container is.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/crm
RUN uv venv /opt/crm
WORKDIR /build
COPY pyproject.toml ./
ARG EXTRAS="--extra s3"
RUN uv pip install --no-cache -r pyproject.toml $EXTRAS
COPY . .
RUN uv pip install --no-cache --no-deps .

FROM python:3.13-slim
ENV PATH=/opt/crm/bin:$PATH PYTHONUNBUFFERED=1 \
    CRM_HOME=/srv/crm CRM_DROP_DIR=/srv/crm/drops CRM_PROFILE_DIR=/srv/crm/profiles \
    DAGSTER_HOME=/srv/crm/dagster
RUN useradd --system --uid 10001 --home-dir /srv/crm crm \
    && install -d -o crm /srv/crm /srv/crm/drops /srv/crm/profiles /srv/crm/dagster /srv/crm/dagster/storage \
    && echo 'load_from: [{grpc_server: {host: code, port: 4000, location_name: pipelines}}]' \
        > /srv/crm/dagster/workspace.yaml
COPY pipelines/dagster.yaml /srv/crm/dagster/
COPY --from=build /opt/crm /opt/crm
USER crm
WORKDIR /srv/crm/dagster
CMD ["crm", "--help"]
