"""Rotary positions: what is kept, what depends on what, and the angles themselves."""

import itertools

import pytest
import torch

from pomato_ros.model.position import RotaryTables, token_positions

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


def test_the_precision_of_the_tokens_is_kept() -> None:
    tables = RotaryTables(random_positions(4), HEAD_DIM, BASE)
    assert tables.rotate(random_tokens(4).bfloat16()).dtype is torch.bfloat16
