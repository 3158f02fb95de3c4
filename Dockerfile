# One image for every program; the compose file says which one a container runs. No torch: ONNX Runtime on the CPU.
FROM python:3.12-slim

ENV PYTHONPATH=/srv PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SHIELD_HOME=/var/shield
WORKDIR /srv
RUN useradd --system --home /var/shield shield && mkdir /var/shield && chown shield /var/shield
COPY requirements/runtime.txt requirements/runtime.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.txt
COPY api api
COPY worker worker
COPY pipeline pipeline
COPY shield shield
COPY migrations migrations
USER shield
VOLUME /var/shield
CMD ["python", "-m", "shield", "up"]
