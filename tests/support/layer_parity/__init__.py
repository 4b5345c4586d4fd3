"""Tables of layer calls that Paddle 1.8.5 and fluidc must agree on, by group."""

from . import elementwise, images, networks, reductions, shapes, volumes

GROUPS = {
    "elementwise": elementwise.TABLE,
    "reductions": reductions.TABLE,
    "shapes": shapes.TABLE,
    "networks": networks.TABLE,
    "images": images.TABLE,
    "volumes": volumes.TABLE,
}
