"""Rotary positions: what is kept, what depends on what, and the angles themselves; the code of places."""

import dataclasses
import itertools

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.position import RotaryTables, position_code, token_positions

HEAD_DIM, BASE = 16, 100.0


def random_tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 2, count, HEAD_DIM, generator=torch.Generator().manual_seed(seed))


def random_positions(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 30, (count, 2), generator=torch.Generator().manual_seed(seed))


def test_positions_are_row_and_column_of_each_patch_row_by_row() -> None:
    assert token_positions(3, 5).tolist() == [list(place) for place in itertools.product(range(3), range(5))]


@pytest.mark.parametrize("offset", [(7, 0), (0, 4), (11, 3)])
def test_scores_depend_on_relative_positions_only(offset: tuple[int, int]) -> None:
    queries, keys, positions = random_tokens(9, 0), random_tokens(9, 1), random_positions(9)
    here, there = (RotaryTables(p, HEAD_DIM, BASE) for p in (positions, positions + torch.tensor(offset)))
    scores = here.rotate(queries) @ here.rotate(keys).mT
    torch.testing.assert_close(there.rotate(queries) @ there.rotate(keys).mT, scores, atol=1e-4, rtol=1e-4)
    mixed = here.rotate(queries) @ there.rotate(keys).mT
    assert (mixed - scores).abs().max() > 0.1


def test_a_rotation_keeps_the_length_of_every_token() -> None:
    tokens = random_tokens(9)
    rotated = RotaryTables(random_positions(9), HEAD_DIM, BASE).rotate(tokens)
    torch.testing.assert_close(rotated.norm(dim=-1), tokens.norm(dim=-1))


def test_the_row_turns_the_first_half_of_a_head_and_the_column_the_second() -> None:
    tokens = random_tokens(1)
    by_row = RotaryTables(torch.tensor([[5, 0]]), HEAD_DIM, BASE).rotate(tokens)
    by_column = RotaryTables(torch.tensor([[0, 5]]), HEAD_DIM, BASE).rotate(tokens)
    half = HEAD_DIM // 2
    torch.testing.assert_close(by_row[..., half:], tokens[..., half:])
    torch.testing.assert_close(by_column[..., :half], tokens[..., :half])
    same_in_both = tokens[..., :half].repeat(1, 1, 1, 2)
    rotated = RotaryTables(torch.tensor([[5, 5]]), HEAD_DIM, BASE).rotate(same_in_both)
    torch.testing.assert_close(rotated[..., :half], rotated[..., half:])


def test_channel_k_and_its_partner_half_a_half_on_turn_by_a_power_of_the_base() -> None:
    tokens, row = random_tokens(1)[0, 0, 0], 13
    quarter = HEAD_DIM // 4
    rotated = RotaryTables(torch.tensor([[row, 0]]), HEAD_DIM, BASE).rotate(tokens[None, None, None])[0, 0, 0]
    for k in range(quarter):
        turn = torch.polar(torch.tensor(1.0), torch.tensor(row * BASE ** (-2 * k / (HEAD_DIM // 2))))
        expected = torch.complex(tokens[k], tokens[k + quarter]) * turn
        torch.testing.assert_close(torch.complex(rotated[k], rotated[k + quarter]), expected)


def test_turning_back_undoes_turning() -> None:
    tables, tokens = RotaryTables(random_positions(4), HEAD_DIM, BASE), random_tokens(4)
    torch.testing.assert_close(tables.rotate_back(tables.rotate(tokens)), tokens)


def test_the_precision_of_the_tokens_is_kept() -> None:
    tables = RotaryTables(random_positions(4), HEAD_DIM, BASE)
    assert tables.rotate(random_tokens(4).bfloat16()).dtype is torch.bfloat16


def test_the_code_of_a_place_tells_it_and_nothing_else() -> None:
    rows, columns, dim = 5, 7, 32
    code = position_code(token_positions(rows, columns), dim, 100.0).view(rows, columns, dim)
    # half of the channels know the row alone, half the column alone
    assert (code[..., : dim // 2] == code[:, :1, : dim // 2]).all()
    assert (code[..., dim // 2 :] == code[:1, :, dim // 2 :]).all()
    # as far apart as the places, whatever the places: cos(a) cos(b) + sin(a) sin(b) = cos(a - b)
    along = code[0, :, dim // 2 :] @ code[0, :, dim // 2 :].T
    torch.testing.assert_close(along.diagonal(1), along[0, 1].expand(columns - 1))
    assert (along.diagonal() > along[0, 1:].max()).all()
    # places can be read off it by weights
    places = token_positions(rows, columns).float()
    known = torch.cat((code.flatten(0, 1), torch.ones(rows * columns, 1)), dim=-1)
    read = known @ torch.linalg.lstsq(known, places, driver="gelsd").solution
    torch.testing.assert_close(read, places, atol=1e-2, rtol=0.0)


def test_only_a_network_with_the_code_tells_patches_of_a_plain_image_apart(tiny_config: NetworkConfig) -> None:
    plain = torch.zeros(1, 3, 64, 80)
    for amount in (0.0, 0.5):
        network = Pomato(dataclasses.replace(tiny_config, position_code=amount)).eval()
        with torch.inference_mode():
            tokens = network.encode(plain)[0]
        apart = (tokens - tokens[:1]).abs().amax(-1)[1:]
        assert (apart.min() > 1e-3) if amount else (apart.max() < 1e-5)
