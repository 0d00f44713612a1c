# The image of every role: `ensemble` with the locked versions of everything, as a user without rights.

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/ensemble
ENV PATH=/opt/ensemble/bin:$PATH
# First what changes seldom: each download is checked against the hashes of the lock.
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY registry registry
COPY workers workers
COPY combiner combiner
COPY cache cache
COPY monitor monitor
COPY lab lab
COPY replay replay
COPY simulation simulation
COPY cli cli
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.12-slim
# LightGBM wants the system's OpenMP.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# A volume mounted here is the user's, because the folder is.
RUN useradd --system --uid 10001 --no-create-home ensemble \
    && mkdir -p /etc/ensemble /var/lib/ensemble \
    && chown ensemble /var/lib/ensemble
COPY --from=build /opt/ensemble /opt/ensemble
ENV PATH=/opt/ensemble/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENSEMBLE_CONFIG=/etc/ensemble/ensemble.toml
USER ensemble
WORKDIR /var/lib/ensemble
ENTRYPOINT ["ensemble"]
CMD ["--help"]
