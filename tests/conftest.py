"""One thread for every test: networks are tiny and test runs share machines."""

import torch

torch.set_num_threads(1)
