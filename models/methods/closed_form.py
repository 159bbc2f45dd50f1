"""No training: the frozen backbone, read out by the closed form (`models/closed_form.py`). The floor for all training."""

from typing import Any

from models.methods.frozen import Frozen


class ClosedFormAlone(Frozen):
    """Frozen, with the closed form as readout; its embedding head is the PCA of the pooled features."""

    @staticmethod
    def flags(parser: Any) -> None:
        Frozen.flags(parser)
        parser.set_defaults(readout="closed_form")
