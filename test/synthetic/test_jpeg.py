import cv2
import numpy as np
import pytest
import torch

from pomato_ros.synthetic.jpeg import compressed
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip


def decoded(image: torch.Tensor, quality: int) -> torch.Tensor:
    """The image (h, w, 3) through the library's own JPEG."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image.numpy()[..., ::-1]), flags)
    return torch.from_numpy(np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]))


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_it_does_what_a_jpeg_library_does(quality: int) -> None:
    images = render_clip(3, TRAIN_WORLD, 1, (70, 45), supersample=2).images
    ours, theirs = compressed(images.float(), quality)[0], decoded(images[0], quality).float()
    damage = (theirs - images[0]).square().mean()
    assert float((ours - theirs).square().mean()) < 0.25 * float(damage), "much nearer to it than to the original"
    assert float((ours - images[0]).square().mean()) == pytest.approx(float(damage), rel=0.25)


def test_one_colour_stays_as_it_is() -> None:
    image = torch.tensor([200.0, 120.0, 40.0]).expand(1, 16, 24, 3)
    torch.testing.assert_close(compressed(image, 95), image, atol=2.0, rtol=0.0)


def test_a_lower_quality_loses_more() -> None:
    images = 255.0 * torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    losses = [float((compressed(images, quality) - images).square().mean()) for quality in (20, 50, 90)]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 100"):
        compressed(torch.zeros(1, 8, 8, 3), quality)
