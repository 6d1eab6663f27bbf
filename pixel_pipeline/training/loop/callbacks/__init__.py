"""Lightning callbacks, one for each concern. They import torch."""
