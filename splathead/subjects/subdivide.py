"""Subdivision and clipping of triangle meshes as sparse linear operators.

Every operator maps base vertices [B, 3] to new vertices [V, 3]; it depends on topology (and for clipping on
a template) only, so all heads of one parametric model share it: ``vertices = operator @ base``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

Topology = tuple[np.ndarray, np.ndarray, np.ndarray]
"""what :func:`unique_edges` returns"""


def unique_edges(faces: np.ndarray, count: int) -> Topology:
    """Undirected edges of ``faces`` [F, 3] over ``count`` vertices.

    Returns edges [E, 2] (sorted), the edge of each face's corner k to k+1 [F, 3], and faces per edge [E].
    """
    pairs = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1).astype(np.int64)
    keys, inverse, uses = np.unique(pairs[:, 0] * count + pairs[:, 1], return_inverse=True, return_counts=True)
    return np.stack(np.divmod(keys, count), axis=1), inverse.reshape(-1, 3), uses


def loop_refine(
    faces: np.ndarray, count: int, marked: np.ndarray | None = None, topology: Topology | None = None
) -> tuple[sp.csr_matrix, np.ndarray]:
    """One step of Loop's scheme (Loop 1987) on the edges ``marked`` [E] (order of :func:`unique_edges`; default all).

    A face with all three edges marked is split in four, one with two or one marked in three or two, so the
    mesh stays conforming. Vertices move by Loop's even rule where all their edges are marked, else stay.
    Returns the operator [count + marked edges, count] and the new faces.
    """
    edges, face_edges, uses = topology or unique_edges(faces, count)
    marked = np.ones(len(edges), dtype=bool) if marked is None else marked
    odd = _odd_rule(faces, count, edges, face_edges, uses)[marked]
    even = _even_rule(count, edges, uses, marked)
    midpoint = np.full(len(edges), -1)
    midpoint[marked] = count + np.arange(int(marked.sum()))
    return sp.vstack([even, odd]).tocsr(), _split_faces(faces, midpoint[face_edges])


def _odd_rule(faces: np.ndarray, count: int, edges: np.ndarray, face_edges: np.ndarray, uses: np.ndarray) -> sp.csr_matrix:
    """New vertex of each edge: 3/8 its ends + 1/8 the two opposite corners; 1/2 its ends on boundaries."""
    interior = uses == 2
    rows = np.repeat(np.arange(len(edges)), 2)
    weights = np.repeat(np.where(interior, 0.375, 0.5), 2)
    corner_edges = face_edges.ravel()
    opposite = faces[:, [2, 0, 1]].ravel()
    used = interior[corner_edges]
    data = np.concatenate([weights, np.full(int(used.sum()), 0.125)])
    rows = np.concatenate([rows, corner_edges[used]])
    columns = np.concatenate([edges.ravel(), opposite[used]])
    return sp.csr_matrix((data, (rows, columns)), (len(edges), count))


def _even_rule(count: int, edges: np.ndarray, uses: np.ndarray, marked: np.ndarray) -> sp.csr_matrix:
    """Old vertices: Loop's valence mask inside, 3/4 + 1/8 + 1/8 on boundaries, unmoved where an edge is not marked."""
    ends = edges.ravel()
    valence = np.bincount(ends, minlength=count)
    frozen = np.bincount(ends, np.repeat(~marked, 2), count) > 0
    boundary = uses != 2
    boundary_valence = np.bincount(edges[boundary].ravel(), minlength=count)
    curve = (boundary_valence == 2) & ~frozen
    inside = (boundary_valence == 0) & (valence > 0) & ~frozen
    n = np.maximum(valence, 3)
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / n)) ** 2) / n
    own = np.where(curve, 0.75, np.where(inside, 1 - n * beta, 1.0))
    neighbours = _adjacency(edges, count)
    border = _adjacency(edges[boundary], count)
    return sp.diags(own) + sp.diags(np.where(inside, beta, 0)) @ neighbours + sp.diags(np.where(curve, 0.125, 0)) @ border


def _adjacency(edges: np.ndarray, count: int) -> sp.csr_matrix:
    rows, columns = edges.ravel(), edges[:, ::-1].ravel()
    return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (count, count))


def _split_faces(faces: np.ndarray, midpoints: np.ndarray) -> np.ndarray:
    """Faces after splitting; ``midpoints`` [F, 3] is the new vertex on the edge from corner k to k+1, or -1."""
    splits = (midpoints >= 0).sum(1)
    parts = [faces[splits == 0]]
    # rotate so that a single mark lies on edge 0, and so that with two marks edge 2 is the unmarked one
    first = np.where(splits == 1, (midpoints >= 0).argmax(1), np.where(splits == 2, ((midpoints < 0).argmax(1) + 1) % 3, 0))
    order = (first[:, None] + np.arange(3)) % 3
    faces, midpoints = np.take_along_axis(faces, order, 1), np.take_along_axis(midpoints, order, 1)
    patterns = {
        1: ((0, 3, 2), (3, 1, 2)),
        2: ((3, 1, 4), (0, 3, 4), (0, 4, 2)),
        3: ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)),
    }
    for marks, triangles in patterns.items():
        chosen = splits == marks
        names = np.concatenate([faces[chosen], midpoints[chosen]], axis=1)
        parts += [names[:, triangle] for triangle in map(list, triangles)]
    return np.concatenate(parts)


def refine_to_length(
    vertices: np.ndarray, faces: np.ndarray, max_length: np.ndarray, levels: int
) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
    """Yield (operator, faces) of up to ``levels`` steps of :func:`loop_refine` on too long edges.

    An edge is too long when it exceeds the mean ``max_length`` [V] of its ends, which is carried to new vertices
    by the same operators.
    """
    for _ in range(levels):
        topology = unique_edges(faces, len(vertices))
        edges = topology[0]
        lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        marked = lengths > max_length[edges].mean(1)
        if not marked.any():
            return
        step, faces = loop_refine(faces, len(vertices), marked, topology)
        vertices, max_length = step @ vertices, step @ max_length
        yield step, faces


def clip(faces: np.ndarray, distance: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Keep the part of the mesh where ``distance`` [V] (signed, of the template) is >= 0.

    Returns the operator to the kept and the new vertices (on the cut edges), unused ones dropped, and faces.
    """
    count = len(distance)
    edges, face_edges, _ = unique_edges(faces, count)
    inside = distance >= 0
    cut = inside[edges[:, 0]] != inside[edges[:, 1]]
    d0, d1 = distance[edges[cut]].T
    t = d0 / (d0 - d1)
    rows = np.repeat(np.arange(int(cut.sum())), 2)
    crossing = sp.csr_matrix((np.stack([1 - t, t], 1).ravel(), (rows, edges[cut].ravel())), (len(t), count))
    midpoint = np.full(len(edges), -1)
    midpoint[cut] = count + np.arange(len(t))
    corners_in = inside[faces].sum(1)
    parts = [faces[corners_in == 3]]
    # rotate the lone corner (inside or outside) to position 0
    mixed = (corners_in == 1) | (corners_in == 2)
    lone = np.where(corners_in[mixed] == 1, inside[faces[mixed]].argmax(1), (~inside[faces[mixed]]).argmax(1))
    order = (lone[:, None] + np.arange(3)) % 3
    f = np.take_along_axis(faces[mixed], order, 1)
    m = np.take_along_axis(midpoint[face_edges[mixed]], order, 1)
    one = corners_in[mixed] == 1
    parts.append(np.stack([f[one, 0], m[one, 0], m[one, 2]], 1))
    parts.append(np.stack([m[~one, 0], f[~one, 1], f[~one, 2]], 1))
    parts.append(np.stack([m[~one, 0], f[~one, 2], m[~one, 2]], 1))
    return drop_unused(sp.vstack([sp.identity(count), crossing]).tocsr(), np.concatenate(parts))


def drop_unused(operator: sp.csr_matrix, faces: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Remove the rows of ``operator`` that no face uses and renumber ``faces``."""
    used, inverse = np.unique(faces, return_inverse=True)
    return operator[used], inverse.reshape(-1, 3)


def longest_boundary_loop(faces: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Vertices [L] of the boundary loop with the greatest length, in the order of its faces' orientation."""
    _, face_edges, uses = unique_edges(faces, len(vertices))
    open_edge = uses[face_edges] == 1
    following = {}
    for corner in range(3):
        chosen = open_edge[:, corner]
        following.update(zip(faces[chosen, corner].tolist(), faces[chosen, (corner + 1) % 3].tolist()))
    loops = []
    while following:
        start, vertex = next(iter(following.items()))
        loop = [start]
        del following[start]
        while vertex != start and vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop))
    if not loops:
        raise ValueError("longest_boundary_loop: the mesh is closed")
    return max(loops, key=lambda loop: np.linalg.norm(vertices[loop] - vertices[np.roll(loop, 1)], axis=1).sum())


def cap(faces: np.ndarray, loop: np.ndarray, count: int, rings: int = 3) -> tuple[sp.csr_matrix, np.ndarray]:
    """Close the boundary ``loop`` [L] of a mesh of ``count`` vertices by shrinking copies of it around its mean.

    Returns the operator that appends the new vertices, and the faces.
    """
    size = len(loop)
    border = sp.csr_matrix((np.ones(size), (np.arange(size), loop)), (size, count))
    centre = sp.csr_matrix(np.full((1, size), 1.0 / size)) @ border
    spread = sp.csr_matrix(np.ones((size, 1))) @ centre
    shares = [1 - k / rings for k in range(1, rings)]
    rows = [share * border + (1 - share) * spread for share in shares]
    indices = [loop] + [count + k * size + np.arange(size) for k in range(len(shares))]
    added = []
    for outer, inner in itertools.pairwise(indices):
        a, b, c, d = outer, np.roll(outer, -1), inner, np.roll(inner, -1)
        added += [np.stack([b, a, c], 1), np.stack([b, c, d], 1)]
    last, middle = indices[-1], count + len(shares) * size
    added.append(np.stack([np.roll(last, -1), last, np.full(size, middle)], 1))
    return sp.vstack([sp.identity(count), *rows, centre]).tocsr(), np.concatenate([faces, *added])
