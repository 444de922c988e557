"""Prints crates/architectures/src/published.tsv: the files of weights that torchvision publishes, and what they were tested with.

    scripts/parity.d/published.py > crates/architectures/src/published.tsv
"""

from torchvision import models
from torchvision.models import get_model_weights, list_models
from torchvision.transforms import InterpolationMode

print("# network\tversion\tfile\timage size\tresize\tinterpolation\tscore, in percent\tdefault")
for module in (models, models.segmentation):
    for name in list_models(module=module):
        for version in get_model_weights(name):
            if version.meta["categories"] is None:
                continue  # of features alone: it tells no classes apart, and is normalized in its own way
            preset = version.transforms()
            # Segmentation's presets cut nothing out: there it is the size that the networks were trained on.
            sizes = [preset.crop_size[0], preset.resize_size[0]] if hasattr(preset, "crop_size") else [480, 480]
            interpolation = "bicubic" if preset.interpolation == InterpolationMode.BICUBIC else "bilinear"
            metrics = next(iter(version.meta["_metrics"].values()))
            score = metrics["acc@1"] if "acc@1" in metrics else metrics["miou"]
            file = version.url.rsplit("/", 1)[1]
            default = "default" if version == get_model_weights(name).DEFAULT else ""
            print(name, version.name, file, *sizes, interpolation, score, default, sep="\t")
