"""The peer's networks by their name in our catalogue: torchvision's, and for CIFAR the ResNets of He et al."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model


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
    if name == "lenet":
        return None
    return get_model(name, weights=None, num_classes=classes)
