"""A small pose network in plain torch: from the crop of a person to a heatmap of each of COCO's 17 keypoints.

Crops are squares around a person's box, ``SIDE`` pixels wide; pixels have their origin at the outer corner of the top-left one, as in
the datasets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from blender_scripts.contract import COCO_KEYPOINTS
from posefactory_dagster.datasets.coco import flip_order
from posefactory_dagster.quality.models import crop, crop_matrix, peaks

#: Pixels of a crop that the network sees, of the larger one that augmentation cuts it from, and of a heatmap.
SIDE, WIDE, MAP = 128, 176, 32
#: Width of a crop in widths of the person's box; of the larger one so much more.
MARGIN = 1.25
#: Spread of a keypoint's blob, in pixels of a heatmap.
SPREAD = 1.0


class Network(nn.Module):
    """0.4 million parameters: down to ``MAP`` at once, two halvings, and back up with the finer levels added."""

    def __init__(self, widths: Sequence[int] = (32, 64, 96), depth: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 8, 4, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))  # fmt: skip
        self.levels = nn.ModuleList()
        for n, width in enumerate(widths):
            smaller = [] if n == 0 else [nn.Conv2d(widths[n - 1], width, 2, 2, bias=False), nn.BatchNorm2d(width)]  # fmt: skip
            self.levels.append(nn.Sequential(*smaller, *(_Residual(width) for _ in range(depth))))
        self.across = nn.ModuleList([nn.Conv2d(w, widths[0], 1) for w in widths])
        self.refine = nn.ModuleList([_Residual(widths[0]) for _ in widths])
        self.head = nn.Conv2d(widths[0], len(COCO_KEYPOINTS), 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Of images (N, 3, SIDE, SIDE) from 0 to 1 how likely each keypoint is where (N, 17, MAP, MAP); logarithms of it while the network is trained."""
        x, found = self.stem(images * 2 - 1), []
        for level in self.levels:
            x = level(x)
            found.append(x)
        x = self.refine[-1](self.across[-1](found[-1]))
        for n in range(len(found) - 2, -1, -1):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.refine[n](x + self.across[n](found[n]))
        places = self.head(x).flatten(2)
        places = places.log_softmax(dim=2) if self.training else places.softmax(dim=2)
        return places.unflatten(2, (MAP, MAP))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


@dataclass
class Crops:
    """People cut out of images: ``images`` (N, 3, WIDE, WIDE) uint8; ``points`` (N, 17, 3) x, y in pixels of the crop and v; ``matrices`` (N, 2, 3) from
    the image to the crop; ``annotations``: COCO's, of each."""

    images: torch.Tensor
    points: torch.Tensor
    matrices: np.ndarray
    annotations: list[dict]

    def __len__(self) -> int:
        return len(self.annotations)

    def some(self, chosen: Sequence[int]) -> Crops:
        """Those at the chosen places."""
        index = torch.as_tensor(list(chosen), dtype=torch.long)
        return Crops(self.images[index], self.points[index], self.matrices[index], [self.annotations[i] for i in chosen])  # fmt: skip


def read(folder: Path, *, keep: Callable[[dict, dict], bool] = lambda image, person: True) -> Crops:
    """All people of an export in COCO's form, of all its splits, for whom ``keep`` of image and annotation holds."""
    document = json.loads((folder / "annotations/person_keypoints_all.json").read_text("utf-8"))
    images = {i["id"]: i for i in document["images"]}
    crops, points, matrices, people = [], [], [], []
    for person in document["annotations"]:
        record = images[person["image_id"]]
        if not keep(record, person):
            continue
        image = cv2.imread(str(folder / "images" / record["file_name"]))
        matrix = crop_matrix(np.array(person["bbox"]), WIDE, MARGIN * WIDE / SIDE)
        crops.append(crop(image, matrix, WIDE)[:, :, ::-1].transpose(2, 0, 1))
        mine = np.array(person["keypoints"], float).reshape(-1, 3)
        points.append(np.column_stack([mine[:, :2] @ matrix[:, :2].T + matrix[:, 2], mine[:, 2]]))
        matrices.append(matrix)
        people.append({**person, "image": record})
    return Crops(torch.as_tensor(np.stack(crops)), torch.as_tensor(np.stack(points), dtype=torch.float32), np.stack(matrices), people)  # fmt: skip


def _augmented(crops: Crops, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch as the network sees it (N, 3, SIDE, SIDE), 0 to 1, turned, scaled, shifted, mirrored and recoloured; and its keypoints (N, 17, 3)."""
    count = len(crops)

    def drawn(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand((count, *shape), generator=chance) * (high - low) + low

    angle = drawn(-1, 1) ** 3 * torch.pi / 2.5
    scale = torch.exp(drawn(-0.35, 0.3))
    mirrored = torch.rand(count, generator=chance) < 0.5
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (N, 2, 2)
    turn[mirrored, 0] *= -1
    shift = SIDE / 2 + drawn(-0.08, 0.08, 2) * SIDE
    points = crops.points.clone()
    points[..., :2] = torch.einsum("nij,nkj->nki", turn, points[..., :2] - WIDE / 2) + shift[:, None]  # fmt: skip
    points[mirrored] = points[mirrored][:, flip_order(COCO_KEYPOINTS)]
    # The grid leads from places of the crop, -1 to 1, back to those of the wide one.
    back = torch.linalg.inv(turn)
    offset = torch.einsum("nij,nj->ni", back, SIDE / 2 - shift) / (WIDE / 2)
    theta = torch.cat([back * SIDE / WIDE, offset[..., None]], dim=2)
    grid = nn.functional.affine_grid(theta, [count, 3, SIDE, SIDE], align_corners=False)
    images = nn.functional.grid_sample(crops.images.float() / 255, grid, align_corners=False)
    gain, bias, power = drawn(0.7, 1.3, 3, 1, 1), drawn(-0.12, 0.12, 1, 1, 1), torch.exp(drawn(-0.35, 0.35, 1, 1, 1))  # fmt: skip
    images = (images.clamp(1e-4, 1) ** power * gain + bias).clamp(0, 1)
    grey = torch.rand(count, generator=chance) < 0.15
    images[grey] = images[grey].mean(dim=1, keepdim=True)
    for n in torch.nonzero(torch.rand(count, generator=chance) < 0.35).ravel().tolist():
        x, y, w, h = (torch.rand(4, generator=chance) * torch.tensor([SIDE, SIDE, SIDE / 2.5, SIDE / 2.5])).int().tolist()  # fmt: skip
        images[n, :, y : y + h, x : x + w] = torch.rand((3, 1, 1), generator=chance)
    return images, points


def _targets(points: torch.Tensor) -> torch.Tensor:
    """Where keypoints (in pixels of a crop of ``SIDE``) should be found: blobs (N, 17, MAP, MAP) with a sum of one."""
    place = torch.arange(MAP) + 0.5
    at = points[..., :2] * MAP / SIDE
    wide = torch.exp(-((place - at[..., :1]) ** 2) / (2 * SPREAD**2))
    high = torch.exp(-((place - at[..., 1:2]) ** 2) / (2 * SPREAD**2))
    blobs = high[..., :, None] * wide[..., None, :]
    return blobs / blobs.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)


def train(crops: Crops, seed: int, samples: int, *, visible_only: bool = False, tell: Callable[..., None] = lambda completed: None) -> Network:  # fmt: skip
    """A network trained on so many augmented samples.

    Args:
        visible_only: whether hidden keypoints (v = 1) are left out of the loss, like those out of the frame.
    """
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    network, batch = Network().to(memory_format=torch.channels_last), 16
    steps = samples // batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)  # fmt: skip
    network.train()
    order: list[int] = []
    for step in range(steps):
        if len(order) < batch:
            order += torch.randperm(len(crops), generator=chance).tolist()
        mine, order = order[:batch], order[batch:]
        images, points = _augmented(crops.some(mine), chance)
        inside = ((points[..., :2] >= 0) & (points[..., :2] < SIDE)).all(dim=2)
        weight = ((points[..., 2] >= (2 if visible_only else 1)) & inside).float()
        places = network(images.contiguous(memory_format=torch.channels_last))
        error = -(places * _targets(points)).sum(dim=(2, 3))
        loss = (error * weight).sum() / weight.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            tell(completed=step / steps)
    return network.eval()


@torch.no_grad()
def predict(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Keypoints (N, 17, 3) in pixels of crops (N, SIDE, SIDE, 3) RGB uint8, and the height of each one's blob. Mirrored crops count as much."""
    batch = torch.as_tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
    maps = []
    for part in batch.split(64):
        straight = network(part)
        mirrored = network(part.flip(3)).flip(3)[:, flip_order(COCO_KEYPOINTS)]
        maps.append((straight + mirrored) / 2)
    found = peaks(torch.cat(maps).numpy())
    found[..., :2] *= SIDE / MAP
    return found


def middle(crops: Crops) -> tuple[np.ndarray, np.ndarray]:
    """Without augmentation: crops (N, SIDE, SIDE, 3) and the matrices (N, 2, 3) from the images to them."""
    low = (WIDE - SIDE) // 2
    images = crops.images[:, :, low : low + SIDE, low : low + SIDE].numpy().transpose(0, 2, 3, 1)
    return images, crops.matrices - np.array([[0, 0, low], [0, 0, low]])


def back(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Points (N, K, 3) of crops in the pixels of their images."""
    inverse = np.linalg.inv(matrices[:, :, :2])
    places = np.einsum("nij,nkj->nki", inverse, points[..., :2] - matrices[:, None, :, 2])
    return np.concatenate([places, points[..., 2:]], axis=2)


def save_onnx(network: nn.Module, path: Path) -> None:
    """Write a network as an ONNX file that ``posefactory audit`` opens."""
    import onnx

    torch.onnx.export(network, (torch.zeros(1, 3, SIDE, SIDE),), str(path), input_names=["images"], output_names=["heatmaps"], dynamo=True, external_data=False)  # fmt: skip
    model = onnx.load(str(path))
    about = {"output": "heatmaps", "size": SIDE, "margin": MARGIN}
    onnx.helper.set_model_props(model, {"posefactory": json.dumps(about)})
    onnx.save(model, str(path))
