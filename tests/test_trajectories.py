"""Trajectories are read back bit for bit, survive their writer, and are cut into the pieces that were asked for."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.trajectories import Episode, Store, Writer, layout, pieces, writer
from recurra.errors import UserError
from recurra.spaces import join, split

PLAIN = {"observation_space": Box(-1, 1, (3,)), "action_space": Discrete(4)}
RICH = {
    "observation_space": Dict(
        picture=Box(0, 255, (2, 3, 3), np.uint8), more=Tuple([Discrete(5, start=-2), MultiBinary(3), Box(0, 1, (0,))])
    ),
    "action_space": MultiDiscrete([3, 5]),
}
SPACES = {"plain": PLAIN, "rich": RICH}


def episode(length, spaces, seed=0):
    """Make an episode of anything that the spaces hold."""
    space, acts = spaces["observation_space"], spaces["action_space"]
    space.seed(seed)
    acts.seed(seed)
    rows = [list(split(space, space.sample())) for _ in range(length + 1)]
    random = np.random.default_rng(seed)
    return Episode(
        join(space, [np.stack(column) for column in zip(*rows, strict=True)]),
        np.stack([acts.sample() for _ in range(length)]),
        random.normal(size=length),
        terminated := bool(random.integers(2)),
        not terminated or bool(random.integers(2)),
    )


def assert_same(mine, theirs, space):
    for one, other in zip(split(space, mine.observations), split(space, theirs.observations), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    np.testing.assert_array_equal(mine.actions, theirs.actions)
    assert mine.rewards.tobytes() == theirs.rewards.tobytes()
    assert mine[3:] == theirs[3:]


def write_steps(out, episode, space):
    for t in range(episode.length):
        last = t == episode.length - 1
        at = [join(space, [leaf[row] for leaf in split(space, episode.observations)]) for row in (t, t + 1)]
        ends = {"terminated": episode.terminated, "truncated": episode.truncated, "final": at[1]} if last else {}
        out.add(at[0], episode.actions[t], episode.rewards[t], **ends)


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("stepwise", [True, False])
def test_what_was_written_is_read_bit_for_bit_by_this_and_later_writers(tmp_path, kind, stepwise):
    spaces, space = SPACES[kind], SPACES[kind]["observation_space"]
    episodes = [episode(length, spaces, seed=length) for length in (1, 2, 9, 30, 1)]
    for part in (episodes[:2], episodes[2:]):
        with Writer(tmp_path / "new" / "folder", **spaces) as out:
            for one in part:
                write_steps(out, one, space) if stepwise else out.add_episode(one)
    store = Store(tmp_path / "new" / "folder")
    store.verify()
    assert (store.observation_space, store.action_space) == tuple(spaces.values())
    assert len(store) == 5
    assert store.steps == 43
    assert store.lengths.tolist() == [1, 2, 9, 30, 1]
    np.testing.assert_allclose(store.returns, [one.rewards.sum() for one in episodes], atol=1e-12)
    for mine, theirs in zip(store, episodes, strict=True):
        assert_same(mine, theirs, space)
    assert_same(store[-1], episodes[-1], space)
    with pytest.raises(IndexError):
        store[5]


def test_a_store_is_views_of_files_and_travels_to_other_processes(tmp_path):
    with Writer(tmp_path, **PLAIN) as out:
        for length in range(1, 11):
            out.add_episode(episode(length, PLAIN))
    store = Store(tmp_path)
    seen = store[3].observations
    assert not seen.flags.writeable
    assert not seen.flags.owndata
    mine, theirs = store.split(0.8, seed=1)
    assert sorted([*mine.lengths, *theirs.lengths]) == list(range(1, 11))
    assert (len(mine), len(theirs)) == (8, 2)
    assert (
        mine.lengths.tolist() == store.split(0.8, seed=1)[0].lengths.tolist() != store.split(seed=2)[0].lengths.tolist()
    )
    np.testing.assert_allclose(mine.returns, [one.rewards.sum() for one in mine])
    again = pickle.loads(pickle.dumps(theirs))
    assert again.lengths.tolist() == theirs.lengths.tolist()
    assert store[2:4].lengths.tolist() == [3, 4]
    with pytest.raises(UserError, match="between 0 and 1"):
        store.split(1.5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), streams=st.integers(1, 5), steps=st.integers(1, 60), rows=st.integers(1, 20))
def test_interleaved_episodes_are_what_each_stream_saw(tmp_path_factory, seed, streams, steps, rows):
    """However the block of memory cuts them, whoever is absent between episodes."""
    random, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "BLOCK_ROWS", rows)
        expected, open_ = [], [[] for _ in range(streams)]
        with Writer(folder, **PLAIN, streams=streams) as out:
            for _ in range(steps):
                obs, final = random.random((2, streams, 3), dtype=np.float32)
                actions, rewards = random.integers(4, size=streams), random.normal(size=streams)
                over, cut = random.random((2, streams)) < 0.1
                present = np.array([bool(mine) for mine in open_]) | (random.random(streams) < 0.7)
                out.add(obs, actions, rewards, terminated=over, truncated=cut, final=final, present=present)
                for row in np.flatnonzero(present):
                    open_[row].append((obs[row], actions[row], rewards[row]))
                    if over[row] or cut[row]:
                        parts = list(zip(*open_[row], strict=True))
                        seen = np.stack([*parts[0], final[row]])
                        expected.append(
                            Episode(seen, np.array(parts[1]), np.array(parts[2]), bool(over[row]), bool(cut[row]))
                        )
                        open_[row] = []
            if seed % 2:
                final = random.random((streams, 3), dtype=np.float32)
                out.cut(final)
                for row in range(streams):
                    if open_[row]:
                        parts = list(zip(*open_[row], strict=True))
                        expected.append(
                            Episode(
                                np.stack([*parts[0], final[row]]), np.array(parts[1]), np.array(parts[2]), False, True
                            )
                        )
    store = Store(folder)
    store.verify()
    assert len(store) == len(expected)
    assert not (folder / layout.OPEN).exists()
    for mine, theirs in zip(store, expected, strict=True):
        assert_same(mine, theirs, PLAIN["observation_space"])


def test_an_open_episode_takes_a_block_of_memory_however_long_it_is(tmp_path):
    with Writer(tmp_path, **PLAIN) as out:
        block = sum(array.nbytes for array in out._blocks)
        assert block <= writer.BLOCK_BYTES
        for t in range(3 * writer.BLOCK_ROWS + 5):
            out.add([0, 0, t / 1e6], t % 4, t)
        assert sum(array.nbytes for array in out._blocks) == block
        out.cut([1, 1, 1])
    kept = Store(tmp_path)[0]
    assert kept.rewards.tolist() == list(range(3 * writer.BLOCK_ROWS + 5))
    assert kept.actions.tolist() == [t % 4 for t in range(kept.length)]


WRITE = """
import sys
import numpy as np
from gymnasium.spaces import Box, Discrete
from recurra.envs.trajectories import Writer
from recurra.envs.trajectories import writer as module
folder, seed = sys.argv[1], int(sys.argv[2])
module.SYNC_EVERY, module.BLOCK_ROWS = 0.05, 16
spaces = {"observation_space": Box(-np.inf, np.inf, (3,), np.float64), "action_space": Discrete(4)}
with Writer(folder, **spaces, streams=4) as out:
    random = np.random.default_rng(seed)
    ends = random.integers(1, 60, size=4)
    numbers, at = out.episodes + np.arange(4), np.zeros(4, dtype=int)
    following = out.episodes + 4
    while True:
        # A row says which episode it is of, and which step: what is read back can be told right from wrong.
        obs = np.stack([numbers, at, numbers * 1e3 + at], 1).astype(float)
        final = obs + [0, 1, 1]
        over = at + 1 == ends
        out.add(obs, at % 4, numbers + at / 7, terminated=over, final=final)
        at += 1
        for row in np.flatnonzero(over):
            print(int(numbers[row]), int(at[row]), flush=True)
            numbers[row], following, at[row], ends[row] = following, following + 1, 0, random.integers(1, 60)
"""


def kill_and_read(folder, kills, random):
    """Kill writers at random moments; give the episodes that they told of, in order, and how many were read at last."""
    told = []
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(folder), str(number)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()  # it writes
        first = len(told)
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = process.stdout.read()
        store = Store(folder)
        store.verify()
        # It tells of an episode after it has written it: at most the one that it was about to tell of is more.
        whole = [line.split() for line in lines.split("\n")[:-1]]
        said = 1 + len(whole)
        # Vector steps may end several episodes before the first of them is told.
        assert first + said <= len(store) <= first + said + 4
        told = store.lengths.tolist()
        assert told[first + 1 : first + said] == [int(length) for _, length in whole]
        for one in store[first:]:
            which = one.observations[0, 0]
            steps = np.arange(one.length + 1)
            np.testing.assert_array_equal(
                one.observations, np.stack([which + 0 * steps, steps, which * 1e3 + steps], 1)
            )
            np.testing.assert_array_equal(one.actions, steps[:-1] % 4)
            np.testing.assert_array_equal(one.rewards, which + steps[:-1] / 7)
            assert (one.terminated, one.truncated) == (True, False)
    return told


def test_a_killed_writer_loses_its_open_episodes_alone(tmp_path):
    told = kill_and_read(tmp_path / "store", 3, np.random.default_rng(0))
    assert len(told) > 3


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    told = kill_and_read(tmp_path / "store", 20, np.random.default_rng(1))
    print(f"20 kills: {len(told)} episodes of {sum(told)} steps kept")
    spaces = {"observation_space": Box(-np.inf, np.inf, (3,), np.float64), "action_space": Discrete(4)}
    with Writer(tmp_path / "store", **spaces) as out:
        assert out.episodes == len(told)
    assert Store(tmp_path / "store").lengths.tolist() == told


def test_a_million_steps_are_read_back_bit_for_bit(tmp_path):
    random, streams = np.random.default_rng(0), 50
    steps = 1_000_000 // streams
    obs = random.random((steps + 1, streams, 8), dtype=np.float32)
    actions, rewards = random.integers(4, size=(steps, streams)), random.normal(size=(steps, streams))
    over = random.random((steps, streams)) < 1e-3
    over[-1] = True
    begun = time.process_time()
    with Writer(tmp_path, observation_space=Box(0, 1, (8,)), action_space=Discrete(4), streams=streams) as out:
        for t in range(steps):
            out.add(obs[t], actions[t], rewards[t], terminated=over[t], final=obs[t + 1])
    written = time.process_time()
    store = Store(tmp_path)
    assert store.steps == 1_000_000
    starts = np.zeros(streams, dtype=int)
    episodes = iter(store)
    for t in range(steps):
        for row in np.flatnonzero(over[t]):
            one, begin = next(episodes), starts[row]
            assert one.observations.tobytes() == obs[begin : t + 2, row].tobytes()
            assert one.actions.tobytes() == actions[begin : t + 1, row].tobytes()
            assert one.rewards.tobytes() == rewards[begin : t + 1, row].tobytes()
            starts[row] = t + 1
    assert next(episodes, None) is None
    read = time.process_time()
    store.verify()
    verified = time.process_time()
    print(
        f"{len(store)} episodes, CPU seconds per million steps: written {written - begun:.2f}, "
        f"read and compared {read - written:.2f}, verified {verified - read:.2f}"
    )


@pytest.mark.parametrize("torn", ["observations-0.bin", "actions.bin", "rewards.bin", "index.bin"])
def test_torn_and_wrong_tails_are_left_out_and_written_over(tmp_path, torn):
    """What a power cut may leave of the last seconds: files of any length with anything in them."""
    episodes = [episode(length, PLAIN, seed=length) for length in (4, 5, 6)]
    with Writer(tmp_path, **PLAIN) as out:
        out.add_episode(episodes[0])
    mark = (tmp_path / layout.SYNCED).read_bytes()
    with Writer(tmp_path, **PLAIN) as out:
        out.add_episode(episodes[1])
        out.add_episode(episodes[2])
    (tmp_path / layout.SYNCED).write_bytes(mark)  # as if no more had been made sure
    path = tmp_path / torn
    whole = path.read_bytes()
    damages = {
        "cut": whole[:-3],
        "zeros": whole[:-8] + bytes(8),
        "flipped": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
    }
    for damage in damages.values():
        path.write_bytes(damage)
        store = Store(tmp_path)
        assert store.lengths.tolist() == [4, 5]
        assert_same(store[1], episodes[1], PLAIN["observation_space"])
    path.write_bytes(whole + b"garbage of an open episode")
    assert Store(tmp_path).lengths.tolist() == [4, 5, 6]
    path.write_bytes(damages["zeros"])
    with Writer(tmp_path, **PLAIN) as out:
        assert (out.episodes, out.steps) == (2, 9)
        out.add_episode(episodes[0])
    store = Store(tmp_path)
    store.verify()
    assert store.lengths.tolist() == [4, 5, 4]
    assert_same(store[2], episodes[0], PLAIN["observation_space"])


def test_what_was_made_sure_and_is_gone_is_told(tmp_path):
    with Writer(tmp_path, **PLAIN) as out:
        out.add_episode(episode(4, PLAIN))
        out.add_episode(episode(5, PLAIN))
    for name, said in (("rewards.bin", "shorter"), ("index.bin", "1 of 2")):
        whole = (tmp_path / name).read_bytes()
        os.truncate(tmp_path / name, len(whole) - 8)
        for reader in (lambda: Store(tmp_path), lambda: Writer(tmp_path, **PLAIN)):
            with pytest.raises(UserError, match=said):
                reader()
        (tmp_path / name).write_bytes(whole)
    flipped = bytearray((tmp_path / "rewards.bin").read_bytes())
    flipped[40] ^= 4
    (tmp_path / "rewards.bin").write_bytes(flipped)
    store = Store(tmp_path)
    store[:1].verify()
    with pytest.raises(UserError, match="episode 1 does not agree"):
        store.verify()
    for content in ("{", "[]", '{"format": "recurra trajectories"}', '{"format": "other"}'):
        (tmp_path / "store.json").write_text(content)
        with pytest.raises(UserError, match="no trajectories can be read"):
            Store(tmp_path)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    with Writer(tmp_path / "store", **PLAIN) as out:
        out.add_episode(episode(4, PLAIN))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("dear diary")
    before = {name: snapshot(tmp_path / name) for name in ("store", "other")}
    with pytest.raises(UserError, match="name another folder"):
        Writer(tmp_path / "store", **RICH)
    with pytest.raises(UserError, match="name another folder"):
        Writer(tmp_path / "store", **{**PLAIN, "action_space": Discrete(5)})
    for make in (lambda: Writer(tmp_path / "other", **PLAIN), lambda: Store(tmp_path / "other")):
        with pytest.raises(UserError, match="something else"):
            make()
    for make in (Store, lambda path: Writer(path, **PLAIN)):
        with pytest.raises(UserError, match="is a file"):
            make(tmp_path / "other" / "diary.txt")
    assert {name: snapshot(tmp_path / name) for name in before} == before
    with pytest.raises(UserError, match="there are no trajectories"):
        Store(tmp_path / "nowhere")
    with pytest.raises(UserError, match="Text is not supported"):
        Writer(tmp_path / "new", observation_space=Dict(told=Text(5)), action_space=Discrete(2))
    assert sorted(os.listdir(tmp_path)) == ["other", "store"]


def test_there_is_one_writer_and_any_number_of_readers(tmp_path):
    with Writer(tmp_path, **PLAIN) as out:
        with pytest.raises(UserError, match="being written to"):
            Writer(tmp_path, **PLAIN)
        out.add_episode(episode(4, PLAIN))
        assert len(Store(tmp_path)) == 1
        out.add_episode(episode(2, PLAIN))
        assert len(Store(tmp_path)) == 2
    with pytest.raises(UserError, match="closed"):
        out.add_episode(episode(2, PLAIN))
    Writer(tmp_path, **PLAIN).close()


def test_a_full_disk_leaves_what_was_whole(tmp_path, monkeypatch):
    with Writer(tmp_path, **PLAIN) as out:
        out.add_episode(episode(4, PLAIN))
        write, left = os.write, [100]

        def full(file, content):
            if left[0] <= 0:
                raise OSError(28, "No space left on device")
            left[0] -= len(content)
            return write(file, content)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            out.add_episode(episode(9, PLAIN))
        monkeypatch.undo()
        assert out.episodes == 1
        out.add_episode(episode(3, PLAIN))
    store = Store(tmp_path)
    store.verify()
    assert store.lengths.tolist() == [4, 3]


def test_wrong_steps_are_the_users_error_and_write_nothing(tmp_path):
    with Writer(tmp_path, **PLAIN) as out:
        for step, said in (
            (([0, 0], 1, 0.0), "observations-0: expected float32 of shape"),
            (([0, 0, 0], 1.5, 0.0), "actions: expected int64"),
            (([0, 0, 0], [1], 0.0), "actions: expected int64"),
            (([0, 0, "a"], 1, 0.0), "observations-0"),
        ):
            with pytest.raises(UserError, match=said):
                out.add(*step)
        with pytest.raises(UserError, match="give final"):
            out.add([0, 0, 0], 1, 0.0, terminated=True)
        with pytest.raises(UserError, match="terminated or truncated"):
            out.add_episode(episode(2, PLAIN)._replace(terminated=False, truncated=False))
        with pytest.raises(UserError, match="rewards"):
            out.add_episode(episode(2, PLAIN)._replace(rewards=np.zeros((2, 1))))
        out.add([0, 0, 0], 1, 0.0)
        with pytest.raises(UserError, match="between its episodes"):
            out.add([0, 0, 0], 1, 0.0, present=False)
    assert len(Store(tmp_path)) == 0
    with Writer(tmp_path / "rich", **RICH) as out, pytest.raises(UserError, match="'picture' is missing"):
        out.add({"more": (0,)}, [0, 0], 0.0)
    with pytest.raises(UserError, match="at least 1"):
        Writer(tmp_path, **PLAIN, streams=0)


def test_nothing_in_a_folder_is_code(tmp_path):
    with Writer(tmp_path, **RICH) as out:
        out.add_episode(episode(4, RICH))
    kinds = {path.suffix for path in tmp_path.iterdir()}
    assert kinds == {".json", ".bin"}
    described = json.loads((tmp_path / "store.json").read_text())
    assert described["action_space"] == {"type": "MultiDiscrete", "nvec": [3, 5], "start": [0, 0], "dtype": "int64"}
    # The format as documented, read with nothing of ours.
    index = np.fromfile(tmp_path / "index.bin", "<i8,<i8,<u4,<u4,<u4")
    assert index.tolist()[0][:2] == (0, 4)
    rewards = np.fromfile(tmp_path / "rewards.bin", "<f8")
    actions = np.fromfile(tmp_path / "actions.bin", "<i8").reshape(-1, 2)
    kept = Store(tmp_path)[0]
    np.testing.assert_array_equal(rewards, kept.rewards)
    np.testing.assert_array_equal(actions, kept.actions)
    for number, leaf in enumerate(split(RICH["observation_space"], kept.observations)):
        assert (tmp_path / f"observations-{number}.bin").read_bytes() == leaf.tobytes()


# Pieces: three episodes whose rewards are powers of ten, so that sums show what they are of.

LENGTHS = (5, 2, 3)


@pytest.fixture
def store(tmp_path):
    with Writer(tmp_path / "pieces", observation_space=Discrete(99), action_space=Discrete(4)) as out:
        for number, length in enumerate(LENGTHS):
            steps = np.arange(length)
            out.add_episode(Episode(10 * number + np.arange(length + 1), steps % 4, 10.0**steps, True, False))
    return Store(tmp_path / "pieces")


def test_pieces_from_the_beginning_are_those_made_by_hand(store):
    got = pieces(store, batch=2, steps=3, begin="beginning")
    assert len(got) == 2
    both = [next(got), next(got)]
    assert [len(piece.present) for piece in both] == [2, 1]
    rows = {}
    for piece in both:
        for row in range(len(piece.present)):
            rows[int(piece.observations[row, 0]) // 10] = [leaf[row].tolist() for leaf in piece]
    assert rows == {
        0: [[0, 1, 2], [0, 1, 2], [1, 10, 100], [11111, 11110, 11100], [True, False, False], [True, True, True]],
        1: [[10, 11, 0], [0, 1, 0], [1, 10, 0], [11, 10, 0], [True, False, False], [True, True, False]],
        2: [[20, 21, 22], [0, 1, 2], [1, 10, 100], [111, 110, 100], [True, False, False], [True, True, True]],
    }


def test_onward_pieces_go_on_where_they_ended_and_skip_nothing(store):
    got = pieces(store, batch=2, steps=2, begin="onward", seed=3)
    told = [next(got) for _ in range(len(got))]
    assert got.position == (0, len(told))
    streams = [np.concatenate([piece.observations[row][piece.present[row]] for piece in told]) for row in range(2)]
    ends = {0: [0, 1, 2, 3, 4], 1: [10, 11], 2: [20, 21, 22]}
    seen = []
    for stream in streams:
        while len(stream):
            which = int(stream[0]) // 10
            assert stream[: LENGTHS[which]].tolist() == ends[which]
            seen.append(which)
            stream = stream[LENGTHS[which] :]
    assert sorted(seen) == [0, 1, 2]
    for piece in told:
        begins = piece.present & (piece.observations % 10 == 0)
        np.testing.assert_array_equal(piece.first, begins)
        place = piece.observations % 10
        whole = np.array([11111, 11, 111])[piece.observations // 10]
        np.testing.assert_array_equal(piece.returns_to_go, np.where(piece.present, whole - (10**place - 1) // 9, 0))


@pytest.mark.parametrize("begin", ["anywhere", "beginning", "onward"])
def test_a_position_goes_on_where_it_was(store, begin):
    options = {"batch": 2, "steps": 2, "begin": begin, "seed": 5}
    one, positions, seen = pieces(store, **options), [], []
    for _ in range(4 * len(one)):
        positions.append(one.position)
        seen.append(next(one))
    assert positions[len(one)] == (0, len(one))
    for number in (0, 1, len(one), len(one) + 1, 3 * len(one)):
        epoch, index = positions[number]
        again = pieces(store, **options, epoch=epoch, index=index)
        for piece in seen[number:]:
            for mine, theirs in zip(next(again), piece, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    orders = {
        tuple(np.concatenate([piece.observations[:, 0] for piece in seen[e * len(one) : (e + 1) * len(one)]]))
        for e in range(4)
    }
    assert len(orders) > 1


def test_pieces_from_anywhere_see_every_step_and_longer_episodes_more_often(store):
    got = pieces(store, batch=3, steps=2, begin="anywhere")
    begun = []
    for _ in range(400 * len(got)):
        piece = next(got)
        begun += piece.observations[:, 0].tolist()
        assert piece.first[:, 0].all()
        assert not piece.first[:, 1:].any()
        ends = np.array(LENGTHS)[piece.observations[:, 0] // 10] - piece.observations[:, 0] % 10
        assert piece.present.sum(1).tolist() == np.minimum(ends, 2).tolist()
    counts = {which: sum(place // 10 == which for place in begun) for which in range(3)}
    assert counts == {0: 1200, 1: 400, 2: 800}  # 5, 2 and 3 steps are 3, 1 and 2 pieces
    for place in (*range(5), 10, 11, *range(20, 23)):
        expected = counts[place // 10] / LENGTHS[place // 10]
        assert abs(begun.count(place) - expected) < 5 * np.sqrt(expected)


def test_pieces_of_nothing_or_none_are_the_users_error(store, tmp_path):
    with Writer(tmp_path / "empty", **PLAIN):
        pass
    with pytest.raises(UserError, match="no episodes"):
        pieces(Store(tmp_path / "empty"), batch=1, steps=1)
    with pytest.raises(UserError, match="at least 1"):
        pieces(store, batch=0, steps=1)
    with pytest.raises(UserError, match="'anywhere'"):
        pieces(store, batch=1, steps=1, begin="anywere")


def test_pieces_of_rich_observations_keep_their_form(tmp_path):
    with Writer(tmp_path, **RICH) as out:
        out.add_episode(episode(3, RICH))
    piece = next(pieces(Store(tmp_path), batch=1, steps=4, begin="beginning"))
    assert piece.observations["picture"].shape == (1, 4, 2, 3, 3)
    assert piece.observations["more"][2].shape == (1, 4, 0)
    assert piece.actions.shape == (1, 4, 2)
    assert not piece.observations["picture"][0, 3].any()


def test_the_package_needs_no_torch():
    code = "import sys; import recurra.envs.trajectories; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
