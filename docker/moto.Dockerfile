# An S3 store in memory that refuses what CORTX refuses, for trying out only.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements/constraints.txt requirements/stack.txt requirements/
RUN pip install -r requirements/stack.txt

RUN useradd --system --uid 10001 --create-home bridge
COPY bridge bridge
COPY cortx_emulation cortx_emulation
COPY docker/health.py docker/moto_store.py docker/

USER bridge
EXPOSE 5000
