# Headwater as an image: docs/operating.md, "Containers". It runs as user 10001, writes only below /data and /tmp, and
# needs no privileges.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/headwater
COPY requirements/run.txt requirements/run.txt
RUN /opt/headwater/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY envoy envoy
COPY gen gen
COPY src src
RUN /opt/headwater/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/headwater/bin/python -m compileall -q /opt/headwater

FROM python:3.11-slim-bookworm
COPY --from=build /opt/headwater /opt/headwater
RUN groupadd --gid 10001 headwater \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin headwater \
    && install -d -m 0700 -o 10001 -g 10001 /data
ENV PATH=/opt/headwater/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADWATER_DATA_DIR=/data \
    HEADWATER_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# A stop completes the calls in progress first: `docker stop --time 60`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --start-interval=2s --timeout=6s --start-period=60s CMD ["headwater", "health"]
ENTRYPOINT ["headwater"]
CMD ["serve"]
