"""`pomato convert`: a weights file of the family as safetensors of ours, read as data, never executed."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

from pomato_ros.cli.results import flat_line
from pomato_ros.config import ARCHITECTURES
from pomato_ros.errors import CheckpointError
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.sources.dust3r.checkpoint import Checkpoint, file_sha256, is_derived, load_checkpoint, save_weights

UNKNOWN_TERMS = "terms unknown: those of whoever trained these weights apply; name them with --licence"
OFFICIAL_TERMS = {  # of each network's published weights, as far as they are known
    "pomato": "of POMATO, MonST3R or DUSt3R: non-commercial (CC BY-NC-SA 4.0 and the terms of the training data)",
    "mast3r": "of MASt3R: CC BY-NC-SA 4.0 and the terms of the training data, of which Map-free is the strictest",
    "d2ust3r": "of D²USt3R or DUSt3R: non-commercial (CC BY-NC-SA 4.0 and the terms of the training data)",
}
LARGEST_FILE_MIB = 2000


class Precision(str, Enum):
    """Of the stored values."""

    fp16 = "fp16"
    bf16 = "bf16"
    fp32 = "fp32"


DTYPES = {Precision.fp16: torch.float16, Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32}


def convert(
    weights: Annotated[Path, typer.Argument(help="An official .pth of the family, or a .safetensors of ours.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors to write.")],
    backend: Annotated[
        str,
        typer.Option(help=f"Whose network it is: {', '.join(ARCHITECTURES)}; empty: as the file says, else pomato."),
    ] = "",
    precision: Annotated[Precision, typer.Option(help="Of the stored values.")] = Precision.fp16,
    licence: Annotated[str, typer.Option(help="Terms of these weights, kept in the file; empty: as published.")] = "",
    sha256: Annotated[str, typer.Option(help="Expected SHA-256 of the file; empty: not checked.")] = "",
) -> int:
    """Convert weights: strictly loaded, with config, hashes and licence in the file, and read back to compare."""
    if backend and backend not in ARCHITECTURES:
        raise typer.BadParameter(f"expected one of {', '.join(ARCHITECTURES)}, got {backend}", param_hint="--backend")
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"expected a name that ends in .safetensors, got {out}", param_hint="out")
    dtype = DTYPES[precision]
    try:
        checkpoint = load_checkpoint(weights, sha256, backend)
        metadata = conversion_metadata(checkpoint, licence)
        limit = LARGEST_FILE_MIB << 20
        written = save_weights(out, checkpoint.network, checkpoint.image_size_px, metadata, dtype, limit)
        check_written(out, checkpoint, dtype)
    except (CheckpointError, OSError) as error:
        typer.echo(f"convert failed: {error}", err=True)
        return 1
    architecture = checkpoint.network.config.architecture
    parameters = sum(parameter.numel() for parameter in checkpoint.network.parameters())
    typer.echo(f"{out}: {architecture}, {parameters:,} parameters in {precision.value}")
    typer.echo(f"licence: {metadata['licence']}")
    facts: dict[str, FlatValue] = {"backend": architecture, "parameters": parameters, "sha256": written}
    typer.echo(flat_line({**facts, "metric": checkpoint.metric}))
    return 0


def conversion_metadata(checkpoint: Checkpoint, licence: str) -> dict[str, str]:
    """What the new file says of the old one: name, hash, constructor text, metric scale, licence."""
    known = checkpoint.metadata.get("licence", "")
    official = checkpoint.path.suffix != ".safetensors"
    published = OFFICIAL_TERMS.get(checkpoint.network.config.architecture, "") if official else ""
    return {
        "source": checkpoint.metadata.get("source", checkpoint.path.name),
        "source_sha256": checkpoint.metadata.get("source_sha256", checkpoint.sha256),
        "description": checkpoint.metadata.get("description", ""),
        "metric": str(checkpoint.metric).lower(),
        "licence": licence or known or published or UNKNOWN_TERMS,
    }


def check_written(path: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Read a written file back.

    Raises:
        CheckpointError: it is not, value for value, what was to be written.
    """
    again = load_checkpoint(path, file_sha256(path)).network.state_dict()
    for name, value in checkpoint.network.state_dict().items():
        if not is_derived(name) and not torch.equal(again[name], value.to(dtype).float()):
            raise CheckpointError(f"{path} does not hold {name} as it was written; the disk may be full or failing")
