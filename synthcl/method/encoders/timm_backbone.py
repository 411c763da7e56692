"""Any backbone of the library timm, by name."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, field_validator
from torch import nn

from synthcl.core.errors import UserError, first_line
from synthcl.method.encoders import weights as files
from synthcl.method.encoders.normalise import Statistics
from synthcl.method.encoders.parted_conv import Parted
from synthcl.method.encoders.section import TIMM, EncoderSection
from synthcl.method.encoders.style import Stage

_OURS = {"pretrained", "num_classes", "in_chans", "img_size", "features_only", "scriptable", "exportable", "no_jit"}
_NEAR = 4


class TimmEncoder(EncoderSection):
    """A backbone of timm by its name, ViT and ConvNeXt included, with its pooled features."""

    kind: Literal["timm"] = "timm"
    backbone: str = Field(
        pattern=r"^\w[\w.]*$", description="as timm has it, such as vit_small_patch16_224 or convnext_tiny.in12k"
    )
    options: dict[str, Any] = Field({}, description="more arguments of the network, such as patch_size")

    SOURCES: ClassVar[tuple[str, ...]] = (TIMM,)

    @field_validator("options")
    @classmethod
    def _options_are_of_the_network(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in _OURS or name.startswith(("pretrained", "checkpoint", "cache")):
                raise ValueError(f"options has {name!r}, which synthcl decides; take it out")
            if "drop" in name:
                raise ValueError(f"options has {name!r}, and nothing is dropped at random here; take it out")
        return options

    def build(self, channels: int, image_size: int | None = None) -> nn.Module:
        try:
            return self._encoder(self._made(channels, image_size), channels)
        except UserError:
            raise
        except Exception as error:  # of sizes and options that the network does not take, which can raise anything
            sized = f"for images of {image_size} px " if image_size else ""
            raise UserError(
                f"encoder.backbone {self.backbone!r} cannot be made {sized}with options {self.options}: "
                f"{first_line(error)}; change data.image_size, views.base.size or encoder.options"
            ) from None

    def stages(self, encoder: nn.Module) -> list[Stage]:
        network = cast(Parted, encoder).network
        known = cast(list[dict[str, Any]], getattr(network, "feature_info", []))
        return [Stage(network.get_submodule(one["module"]), one["num_chs"]) for one in known]

    def begin(self, channels: int, image_size: int | None = None) -> nn.Module:
        """With weights, timm brings them to the size of the images and their channels, and drops its classifier."""
        encoder = self.build(channels, image_size)
        if self.weights is None:
            return encoder
        given: dict[str, Any] = {"pretrained": True}
        file = self.weights_file
        if file is None:
            self.require_named_weights()
            made = files.fetched(self.weights, lambda: self._made(channels, image_size, **given))
        else:
            files.require_same_statistics(file, self.statistics())
            first = next(iter(cast(Parted, encoder).network.state_dict()))
            state = files.without(files.read(file), self._classifiers(), first)
            given["pretrained_cfg_overlay"] = {"state_dict": state, "num_classes": 0, "label_offset": 0}  # strictly
            made = files.fitted(self.weights, lambda: self._made(channels, image_size, **given))
        return self._encoder(made, channels)

    def _encoder(self, network: nn.Module, channels: int) -> Parted:
        return Parted(network, cast(int, network.head_hidden_size), self.normaliser(channels))

    def statistics_of_weights(self) -> Statistics:
        settings = self._settings()
        return Statistics(tuple(settings.mean), tuple(settings.std))

    def require_named_weights(self) -> None:
        self._settings()
        timm = _timm()
        if self.weights == TIMM and not timm.models.is_model_pretrained(self.backbone):
            raise UserError(
                f"encoder.weights 'timm': timm has none of {self.backbone!r}; near it has weights of "
                f"{_near(self.backbone, tuple(timm.list_models(pretrained=True)))}"
            )

    def license(self) -> str:
        known = self._settings().license if self.weights == TIMM else None
        return f"; their licence, as timm has it: {known}" if known else ""

    @property
    def called(self) -> str:
        return self.backbone

    def _made(self, channels: int, image_size: int | None, **given: Any) -> nn.Module:
        """timm's own network, without a classifier and without what is drawn at random in training."""
        if image_size is not None and self._settings().fixed_input_size:
            given["img_size"] = image_size
        ours = {"pretrained": False, "num_classes": 0, "in_chans": channels} | given
        network: nn.Module = _timm().create_model(self.backbone, **ours, **self.options)
        for layer in network.modules():  # such draws would be of a global state, and no run could be resumed
            if isinstance(layer, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
                layer.p = 0.0
            elif hasattr(layer, "drop_prob"):
                layer.drop_prob = 0.0  # type: ignore[assignment]
        return network

    def _settings(self) -> Any:
        """What timm knows of the network: sizes, means, where its weights are.

        Raises:
            UserError: when timm has no such network or no such weights.
        """
        timm = _timm()
        name = self.backbone.partition(".")[0]
        if not timm.is_model(name):
            near = _near(name, tuple(timm.list_models()))
            raise UserError(
                f"encoder.backbone {self.backbone!r} is no network of timm {timm.__version__}; near: {near}"
            )
        try:
            return timm.get_pretrained_cfg(self.backbone) or timm.models.PretrainedCfg()
        except RuntimeError:
            tags = ", ".join([name, *timm.list_pretrained(f"{name}.*")])
            raise UserError(
                f"encoder.backbone {self.backbone!r}: timm has no weights of that name; choose {tags}"
            ) from None

    def _classifiers(self) -> tuple[str, ...]:
        named = self._settings().classifier or ()
        return tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))


def _timm() -> Any:
    """The library, which is imported when it is needed.

    Raises:
        UserError: when it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise UserError("encoder.kind 'timm' needs the package timm; pip install 'synthcl[timm]' has it") from None
    return timm


@lru_cache(maxsize=64)
def _near(name: str, known: tuple[str, ...]) -> str:
    return ", ".join(difflib.get_close_matches(name, known, _NEAR, 0.4) or known[:_NEAR])
