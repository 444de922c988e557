"""The peer's networks by their name in our catalogue: torchvision's, and for CIFAR the ResNets of He et al."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model, get_model_weights

NAMES = """
    alexnet resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 wide_resnet101_2 resnext50_32x4d
    resnext101_32x8d resnext101_64x4d cifar_resnet20 cifar_resnet32 cifar_resnet44 cifar_resnet56 regnet_x_400mf
    regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf
    regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf
    mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5
    efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l vgg11 vgg13 vgg16 vgg19
    vgg11_bn vgg13_bn vgg16_bn vgg19_bn squeezenet1_0 squeezenet1_1 shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 densenet121 densenet161 densenet169 densenet201 googlenet inception_v3 convnext_tiny
    convnext_small convnext_base convnext_large vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14 swin_t swin_s swin_b swin_v2_t
    swin_v2_s swin_v2_b maxvit_t
    fcn_resnet50 fcn_resnet101 deeplabv3_resnet50 deeplabv3_resnet101 deeplabv3_mobilenet_v3_large
    lraspp_mobilenet_v3_large
""".split()

# A small network of each family, and images that are small but not too small for it.
SMALLEST = [
    ("resnet18", 64),
    ("resnext50_32x4d", 64),
    ("cifar_resnet20", 32),
    ("mobilenet_v2", 64),
    ("mobilenet_v3_small", 64),
    ("efficientnet_b0", 64),
    ("vgg11_bn", 32),
    ("squeezenet1_0", 64),
    ("shufflenet_v2_x0_5", 64),
    ("densenet121", 64),
    ("alexnet", 64),
    ("googlenet", 64),
    ("inception_v3", 80),
    ("mnasnet0_5", 64),
    ("regnet_x_400mf", 64),
    ("regnet_y_400mf", 64),
    ("efficientnet_v2_s", 64),
    ("convnext_tiny", 64),
    ("vit_b_32", 224),
    ("swin_t", 72),
    ("swin_v2_t", 72),
    ("maxvit_t", 224),
    ("fcn_resnet50", 65),
    ("deeplabv3_mobilenet_v3_large", 65),
    ("lraspp_mobilenet_v3_large", 65),
]

# Names of networks that tell the class of each pixel.
MASKS = ("fcn_", "deeplabv3_", "lraspp_")


def classes_of(name):
    """How many classes the network is published with."""
    return 10 if name.startswith("cifar") else 21 if name.startswith(MASKS) else 1000


def weights_of(name):
    """The published weights: the best; of a network that takes one size of images, those for images of 224×224 pixels."""
    weights = get_model_weights(name)
    return weights.IMAGENET1K_SWAG_LINEAR_V1 if name == "vit_h_14" else weights.DEFAULT


def image_size(name):
    """The side of the images that the network was made for."""
    if name.startswith(MASKS):
        return 480
    return 32 if name.startswith("cifar") else weights_of(name).transforms.keywords["crop_size"]


class CifarBlock(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride, self.missing = stride, planes - inputs

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.missing:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.missing // 2, self.missing // 2))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """Option A: shortcuts without parameters. Layers are named as in the published weights."""

    def __init__(self, depth, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, planes in enumerate((16, 32, 64), 1):
            blocks = []
            for index in range(depth):
                blocks.append(CifarBlock(inputs, planes, 2 if stage > 1 and index == 0 else 1))
                inputs = planes
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def peer(name, classes):
    """A fresh network, in training mode."""
    if name.startswith("cifar_resnet"):
        return CifarResNet((int(name.removeprefix("cifar_resnet")) - 2) // 6, classes)
    if name.startswith(MASKS):
        return get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    if name in ("googlenet", "inception_v3"):
        return get_model(name, weights=None, aux_logits=False, init_weights=True, num_classes=classes)
    return get_model(name, weights=None, num_classes=classes)


def load_into(model, state):
    """Loads a state dict, all of it. MNASNet asks which of its versions it is of."""
    versioned = OrderedDict(state)
    versioned._metadata = model.state_dict()._metadata
    model.load_state_dict(versioned, strict=True)


def logits_of(output):
    """N×classes, or of a network for masks N×classes×H×W."""
    return output["out"] if isinstance(output, dict) else output


def loss_of(logits):
    """The cross-entropy for the labels 0, 1, ..., of all pixels where there are such."""
    labels = torch.arange(len(logits)).view(-1, *[1] * (logits.dim() - 2)).expand(len(logits), *logits.shape[2:])
    return torch.nn.functional.cross_entropy(logits, labels)
