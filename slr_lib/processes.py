"""Several processes that train one model together, each on its share of every batch (data parallel).

Lightning would start them by running sys.argv again, which is a notebook's kernel or a test runner as often as a
script, or by fork, which hangs where the parent has used torch's threads (OpenMP) and cannot be followed by CUDA. So
they are spawned here, and Lightning finds itself in processes that someone else has started. They get everything
pickled: an object whose class is written in a notebook, and not in a module, cannot go with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, multiprocessing

from slr_lib.errors import InputError

STRATEGIES = ("auto", "ddp")


def process_count(strategy: str, devices: int) -> int:
    """How many processes the settings ask for: `devices` by `ddp`, one by `auto`.

    Raises:
        InputError: the settings contradict each other, or there are fewer GPUs.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy: {strategy!r} is none of {', '.join(STRATEGIES)}.")
    if devices < 1:
        raise InputError(f"devices: {devices} is not possible; 1 or more.")
    if strategy == "auto":
        if devices > 1:
            raise InputError(f"devices: {devices} need `strategy: ddp`; or set devices to 1.")
        return 1
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise InputError(f"devices: {devices} are more than the {torch.cuda.device_count()} GPUs of this machine; "
                         "set devices to as many.")
    return devices


def run_processes(function: Callable, count: int, *arguments) -> None:
    """Call `function(rank, *arguments)` in `count` new processes and wait; this process's threads are shared out.

    When one fails or this process is interrupted, all end. Tensors among the arguments are shared with this process.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one failed; with its traceback. ProcessExitedException: one was
        killed.
    """
    threads = max(1, torch.get_num_threads() // count)
    context = multiprocessing.start_processes(
        _begin, (function, arguments, find_free_network_port(), threads), count, join=False, start_method="spawn"
    )
    try:
        while not context.join():
            pass
    finally:
        for process in context.processes:
            if process.is_alive():
                process.terminate()


def ddp_trainer_arguments(count: int, idle: bool) -> dict:
    """Of a lightning.Trainer in a process that `run_processes` started: gradients are averaged over all of them.

    Gloo on processors, NCCL (Lightning's choice) on GPUs.

    Args:
        idle: some parameters get no gradient.
    """
    gpus = torch.cuda.is_available()
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), find_unused_parameters=idle,
                           process_group_backend=None if gpus else "gloo")
    return {"accelerator": "gpu" if gpus else "cpu", "devices": count, "strategy": strategy,
            "use_distributed_sampler": False}


def share_of_step(labels: Tensor) -> Tensor:
    """The factor of this process's mean loss that makes the mean over processes the mean over all clips of the step.

    Args:
        labels: of this process's clips; those below 0 fill a batch and do not count.
    """
    own = (labels >= 0).sum().float()
    total = own.clone()
    distributed.all_reduce(total)
    return own * distributed.get_world_size() / total


def gather_rows(rows: Tensor, device: torch.device) -> Tensor:
    """The rows [n, ...] of all processes, one process's behind the other's, on every process; n may differ.

    Args:
        device: on which the processes can talk.
    """
    here = rows.to(device)
    count = torch.tensor([len(rows)], device=device)
    counts = [torch.zeros_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    longest = int(torch.cat(counts).max())
    padded = here.new_zeros(longest, *here.shape[1:])
    padded[: len(rows)] = here
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).to(rows.device)


def _begin(rank: int, function: Callable, arguments: tuple, port: int, threads: int) -> None:
    # what Lightning's LightningEnvironment reads in processes that it has not started itself
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), NODE_RANK="0", LOCAL_RANK=str(rank))
    torch.set_num_threads(threads)
    function(rank, *arguments)
