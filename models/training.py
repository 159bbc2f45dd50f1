"""The forward and backward pass of a training step: over several processes, and in small pieces where memory is short."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from utils.errors import InputError


class TwoHeads(nn.Module):
    """An Embedder with both heads in one `forward`, as DistributedDataParallel wants it."""

    def __init__(self, model, normalise):
        super().__init__()
        self.model, self.normalise = model, normalise

    def forward(self, images, metric, rotated):
        """images: uint8 (N, 3, H, W), of which the first `metric` are metric views. rotated: int64 (m,), those that the
        rotation head sees. Returns embeddings (metric, dim) and logits (m, 4), float32."""
        features = self.model.pool_views(images, metric, self.normalise)
        return self.model.embed(features[:metric]), self.model.rotate(features[rotated])


class Passes:
    """A batch -> embeddings and rotation logits, and a loss of these -> gradients of the model.

    With `micro_batch`, no more images than that are in the network at once: a first pass without gradients gives the outputs
    of the whole batch, a pair loss of them its gradient by each, and a second pass, piece by piece, takes these on to the
    weights (GradCache, Gao et al. 2021, arXiv 2101.06983, section 3.2). The gradient is that of a single pass, for one more
    forward pass; splitting the loss instead would lose the pairs across the pieces.
    """

    def __init__(self, model, normalise, compute, group, width, micro_batch=0):
        """model: an Embedder, on its device. compute: utils.device.Compute. group: utils.distributed.Group. width: of the
        images. micro_batch: 0 for one pass."""
        batch_norm = not model.freeze_bn and any(isinstance(module, _BatchNorm) for module in model.modules())
        if micro_batch and batch_norm:
            raise InputError("--micro_batch needs frozen BatchNorm (--freeze_BN True with --pretrained True): the "
                             "statistics of a piece are not those of the batch")
        self.local = TwoHeads(model, normalise)
        self.wrapped = self.local
        if group.size > 1:  # it also gives all processes the weights of the first
            self.wrapped = DistributedDataParallel(self.local, forward_sync_buffers=batch_norm)
        self.compute, self.width, self.micro_batch, self._pieces = compute, width, micro_batch, []
        # Processes talk in the same order only if all make two passes, also where one's share would fit into one piece.
        self.always_two = micro_batch and group.size > 1

    def forward(self, images, metric, rotated):
        """As TwoHeads. The outputs carry gradients, to be used in a loss for `backward`."""
        if not len(images):  # the other processes have some, and this one takes part
            images = images.new_zeros(1, 3, self.width, self.width)
        if not self.micro_batch or len(images) <= self.micro_batch and not self.always_two:
            self._pieces = []
            with self.compute.autocast():
                return self.wrapped(images, metric, rotated)
        seeds = torch.randint(2**62, (-(-len(images) // self.micro_batch),)).tolist()  # of dropout: the same in both passes
        pieces, embeddings, logits = [], [], torch.empty(0)
        with torch.no_grad():
            for piece, seed in enumerate(seeds):
                start = piece * self.micro_batch
                part = images[start:start + self.micro_batch]
                mine = (rotated >= start) & (rotated < start + len(part))
                inputs = part, max(0, min(metric - start, len(part))), rotated[mine] - start
                torch.manual_seed(seed)
                with self.compute.autocast():
                    some_embeddings, some_logits = self.local(*inputs)
                if not piece:
                    logits = some_logits.new_empty(len(rotated), some_logits.shape[1])
                embeddings.append(some_embeddings)
                logits[mine] = some_logits
                pieces.append((inputs, mine, seed))
        self._pieces = pieces
        self._outputs = torch.cat(embeddings).requires_grad_(), logits.requires_grad_()
        return self._outputs

    def backward(self, loss):
        """Gradients of `loss`, a scalar made of what `forward` returned, for all parameters."""
        loss.backward()
        last, done = len(self._pieces) - 1, 0
        for piece, (inputs, mine, seed) in enumerate(self._pieces):
            torch.manual_seed(seed)
            alone = self.wrapped is not self.local and piece < last  # processes share gradients once, with the last piece
            with self.wrapped.no_sync() if alone else nullcontext():
                with self.compute.autocast():
                    outputs = self.wrapped(*inputs)
                gradients = self._outputs[0].grad[done:done + inputs[1]], self._outputs[1].grad[mine]
                torch.autograd.backward(outputs, gradients)
            done += inputs[1]
        self._pieces = []
