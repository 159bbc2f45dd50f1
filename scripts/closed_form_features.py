"""Extracts features of a data set by a net, once, and keeps them in files, for the other scripts of the closed form."""

import json
import os
import sys
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import models
from data.dataset import read_test, read_train
from data.images import Images
from data.views import ImageBatches
from models.closed_form import ClosedForm
from models.readout import SAMPLE, Fitter
from utils import device
from utils.errors import InputError
from utils.files import write_json, written_whole

DIMS = (512, 1024)
BATCH = 100


class Recorder:
    """Replaces an Embedder's `read`, and keeps the pooled features and descriptions of all images that pass."""

    def __init__(self, embedder):
        self.read, self.pooled, self.descriptions, self.seconds = embedder.read, [], [], []
        embedder.read = self

    def __call__(self, images, *readouts):
        *outputs, pooled, description = self.read(images, *readouts, "pooled", "description")
        self.pooled.append(F.normalize(pooled))
        self.descriptions.append(description)
        self.seconds.append(time.process_time())
        return tuple(outputs)


class Features:
    """The features of a set by a net. `array(name)` reads one of these arrays:

    "pooled": pooled features of the training images.
    "description": descriptions of the training images.
    "crops": descriptions of random crops of the sample, pass after pass.
    "test_pooled": pooled features of the test images.
    "test_description": descriptions of the test images.
    """

    def __init__(self, folder, net, width, scratch, checkpoint=None, name=None):
        """checkpoint: of a trained net; None: `net`, frozen. name: of the files."""
        self.folder, self.net, self.width, self.checkpoint = folder, net, width, checkpoint
        self.set = os.path.basename(os.path.abspath(folder))
        self.name = (name or f"{self.set}-{net}-{width}").replace("/", "-")
        self.cache = Path(scratch) / "features" / self.name

    @cached_property
    def train_labels(self):
        return read_train(self.folder).labels

    @cached_property
    def test_labels(self):
        return self._test_list.labels

    @cached_property
    def _test_list(self):
        query, gallery = read_test(self.folder)
        if gallery is not query:
            raise InputError(f"{self.folder}: has a query.txt and a gallery.txt; this table is for sets with a test.txt")
        return query

    @cached_property
    def meta(self):
        """feature_dim, layers, sample (number of images with random crops), seconds of the centre pass and of all passes."""
        if not (self.cache / "meta.json").exists():
            self._extract()
        return json.loads((self.cache / "meta.json").read_text())

    def array(self, name):
        assert self.meta
        return np.load(self.cache / f"{name}.npy")

    def form(self, dim):
        """Return an unfitted closed form with this set's channel reduction."""
        form = ClosedForm(self.meta["feature_dim"], self.meta["layers"], dim)
        for number, buffer in enumerate(form.reduce.buffers()):
            buffer.copy_(torch.from_numpy(self.array(f"reduce_{number}")))
        return form

    def describe_test(self, other):
        """Return the descriptions of another set's test images, with this set's reduction of the channels."""
        name = f"test_description_of_{other.set}"
        if not (self.cache / f"{name}.npy").exists():
            embedder = self._embedder()
            embedder.closed_form = self.form(1)
            self._keep(name, self._pass(embedder, other._test_list)[1])
        return np.load(self.cache / f"{name}.npy")

    def _embedder(self):
        crops = {"width": self.width, "origin_width": self.width * 9 // 8}
        if self.checkpoint:
            embedder = models.load(self.checkpoint, **crops)
        else:
            embedder = models.create(self.net, DIMS[0], True, **crops).eval()
        return device.choose("cpu").place(embedder)

    def _batches(self, images, embedder):
        return ImageBatches(Images(images.paths, embedder.transforms), BATCH, 0)

    @torch.inference_mode()
    def _pass(self, embedder, images):
        """Return pooled features and descriptions of centre crops."""
        recorder = Recorder(embedder)
        for _, batch, bad in self._batches(images, embedder).crops():
            if bad:
                raise InputError(bad[0].message)
            embedder.read(batch)
        return torch.cat(recorder.pooled), torch.cat(recorder.descriptions)

    def _extract(self):
        """Fit as a user does, and keep the Fitter's features: centre crops of all images, then passes over sampled crops."""
        print(f"{self.name}: features", file=sys.stderr, flush=True)
        embedder, train = self._embedder(), read_train(self.folder)
        recorder, began = Recorder(embedder), time.process_time()
        Fitter(self._batches(train, embedder), device.choose("cpu"))(embedder)
        pooled, descriptions = torch.cat(recorder.pooled), torch.cat(recorder.descriptions)
        count, sizes = len(train), np.array([len(rows) for rows in recorder.pooled])
        centre = recorder.seconds[int(np.searchsorted(sizes.cumsum(), count))] - recorder.seconds[0]
        del embedder.read  # the class's own again
        test_pooled, test_description = self._pass(embedder, self._test_list)
        self._keep("pooled", pooled[:count])
        self._keep("description", descriptions[:count])
        self._keep("crops", descriptions[count:])
        self._keep("test_pooled", test_pooled)
        self._keep("test_description", test_description)
        form = embedder.closed_form
        for number, buffer in enumerate(form.reduce.buffers()):
            self._keep(f"reduce_{number}", buffer)
        meta = {
            "feature_dim": embedder.feature_dim,
            "layers": {name: list(buffer.shape) for name, buffer in zip(form.layers, form.reduce.buffers())},
            "sample": min(count, SAMPLE),
            "weights": form.weights.tolist(),
            "seconds": {"centre": centre * count / (count - sizes[0]), "all": recorder.seconds[-1] - began},
        }
        write_json(self.cache / "meta.json", meta)

    def _keep(self, name, rows):
        self.cache.mkdir(parents=True, exist_ok=True)
        with written_whole(self.cache / f"{name}.npy") as file:
            np.save(file, rows.cpu().numpy())
