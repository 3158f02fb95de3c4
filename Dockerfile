# One image for every program; docker-compose.yml says which one a container runs. No torch: ONNX Runtime on the CPU.
# Nothing is installed from Debian: psycopg, OpenCV and ONNX Runtime bring their libraries along, and torch CUDA's.
# For scan workers on CUDA there is a second image: docker build --target gpu --tag deepfake-shield-gpu .
FROM python:3.12-slim AS programs

ENV PYTHONPATH=/srv PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SHIELD_HOME=/var/shield SHIELD_HOST=0.0.0.0
WORKDIR /srv
# A number, so that who runs the image can see that it is not root, and who mounts a folder can give it away.
RUN groupadd --gid 10001 shield \
    && useradd --uid 10001 --gid 10001 --home-dir /var/shield --no-create-home --shell /usr/sbin/nologin shield \
    && install --directory --owner=shield --group=shield --mode=0700 /var/shield
COPY requirements/runtime.txt requirements/runtime.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.txt
COPY shield shield
COPY pipeline pipeline
COPY worker worker
COPY api api
COPY migrations migrations
USER 10001:10001
VOLUME /var/shield
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
# Alone, the image is a whole system on SQLite and files in /var/shield.
CMD ["python", "-m", "shield", "up"]

FROM programs AS gpu
USER root
COPY requirements/gpu.txt requirements/gpu.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/gpu.txt
ENV SHIELD_DEVICE=cuda SHIELD_DTYPE=float16
USER 10001:10001
HEALTHCHECK NONE
CMD ["python", "-m", "worker", "scan"]

FROM programs
