"""Networks designed by hand: what found ones are compared with."""

from gradnas.models.cifar_resnet import CifarResNet as CifarResNet
from gradnas.models.from_torchvision import PREFIX as PREFIX
from gradnas.models.from_torchvision import torchvision_model as torchvision_model
from gradnas.models.from_torchvision import torchvision_names as torchvision_names
from gradnas.models.pyramid_net import PyramidBlock as PyramidBlock
from gradnas.models.pyramid_net import PyramidNet as PyramidNet
from gradnas.models.shake import ShakeMode as ShakeMode
from gradnas.models.shake import ShakeShake as ShakeShake
from gradnas.models.shake_blocks import ShakeBlock as ShakeBlock
from gradnas.models.shake_blocks import ShakeBottleNeck as ShakeBottleNeck
from gradnas.models.shake_blocks import Shortcut as Shortcut
from gradnas.models.shake_drop import ShakeDrop as ShakeDrop
from gradnas.models.shake_drop import keep_probability as keep_probability
from gradnas.models.shake_networks import ShakeResNet as ShakeResNet
from gradnas.models.shake_networks import ShakeResNeXt as ShakeResNeXt
from gradnas.models.zoo import MODELS as MODELS
from gradnas.models.zoo import ZooModel as ZooModel
