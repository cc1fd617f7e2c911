"""Backbones: the wrappers of timm and torchvision, and the few networks that neither has."""

from openmixup.models.backbones.base import Backbone
from openmixup.models.backbones.cifar_resnet import CifarResNet
from openmixup.models.backbones.lenet import LeNet5
from openmixup.models.backbones.timm import TimmBackbone
from openmixup.models.backbones.torchvision import TorchvisionBackbone
from openmixup.models.backbones.wide_resnet import WideResNet

__all__ = ['Backbone', 'CifarResNet', 'LeNet5', 'TimmBackbone', 'TorchvisionBackbone', 'WideResNet']
