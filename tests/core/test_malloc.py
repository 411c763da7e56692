import subprocess
import sys

import pytest
import torch
from image_files import write_classes

from synthcl.core.device import to_device

FAULTS = """
import resource, torch
from synthcl.core.malloc import keep_freed_memory

def step():
    return [torch.empty(megabytes * 2**18).fill_(1) for megabytes in (1, 8, 40)]

keep_freed_memory()
keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(faults() for _ in range(5)))  # the process grows to its size first, and a block may find its place late
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are Linux's")
def test_freed_memory_is_used_again_without_a_page_fault():
    # In a process of its own: what other tests have left of the heap decides where a tensor fits.
    faults = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    assert int(faults) < 1000  # of 5 * 12,544 pages


DROPPED = """
import gc, psutil, sys
from synthcl.config.sections import DataConfig
from synthcl.data import open_split
from synthcl.core.malloc import keep_freed_memory

def resident_mib():
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20

def opened(source, size, root):
    config = DataConfig(source=source, root=root, image_size=size, channels=3, loader_workers=0)
    return open_split(config, "train", "cpu")

keep_freed_memory()
for source, size in (("fashion-mini", 28), ("folder", 16)):
    opened(source, size, sys.argv[1])  # what is made once is there
for source, size in (("fashion-mini", 80), ("folder", 512)):
    before = resident_mib()
    split = opened(source, size, sys.argv[1])
    held = resident_mib() - before
    del split
    print(held, resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_the_memory_of_a_split_comes_back_when_it_is_dropped(tmp_path):
    write_classes(tmp_path / "train", 150)  # 240 for training, of 0.75 MiB each when they are decoded
    write_classes(tmp_path / "test", 1)
    done = subprocess.run([sys.executable, "-c", DROPPED, tmp_path], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        held, left = map(float, line.split())
        assert held > 130
        assert left < 70


def test_a_tensor_that_is_there_already_is_not_copied():
    tensor = torch.arange(4)
    assert to_device(tensor, "cpu") is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_reaches_a_gpu_whole_without_a_wait():
    tensor = torch.arange(100_000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = to_device(tensor, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(sent.cpu(), tensor)
