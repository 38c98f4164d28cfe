"""Binary particle swarm optimization with an exact budget."""

from __future__ import annotations

import torch
from torch import Tensor

from optprune_fast.search.latent import LatentStrategy, chosen
from optprune_fast.search.problem import Problem


class ParticleSwarm(LatentStrategy):
    """Particles are masks; a particle's velocity is a latent score, drawn to where it and all were best.

    particles:    how many
    inertia:      share of its velocity that a particle keeps
    own, common:  pull of the particle's best mask and of the best of all
    noise:        of the draw of the next mask from the velocity
    """

    name = "particle_swarm"

    def __init__(self, particles: int = 25, inertia: float = 1.0, own: float = 1.0, common: float = 1.0,
                 noise: float = 0.15) -> None:
        self.particles, self.inertia, self.own, self.common, self.noise = particles, inertia, own, common, noise

    def start(self, problem: Problem) -> None:
        super().start(problem)
        self.velocity = self.first.repeat(self.particles, 1)
        self.best = torch.empty(0, dtype=torch.bool)
        self.fitness = torch.empty(0)

    def propose(self) -> Tensor:
        if self.generation == 0:
            scores = self.around_first(self.particles)
        else:
            odds = self.uniform(*self.velocity.shape).clamp(1e-7, 1 - 1e-7).logit()
            scores = self.velocity + self.noise * odds
        self.masks = chosen(scores, self.problem.choices)
        return scores

    def learn(self, fitness: Tensor) -> None:
        if self.generation == 0:
            self.best, self.fitness = self.masks, fitness
        better = fitness < self.fitness
        self.best = torch.where(better[:, None], self.masks, self.best)
        self.fitness = torch.where(better, fitness, self.fitness)
        at = self.masks.to(self.velocity)
        own, common = self.uniform(*at.shape), self.uniform(*at.shape)
        self.velocity = (self.inertia * self.velocity + self.own * own * (self.best.to(at) - at)
                         + self.common * common * (self.best[self.fitness.argmin()].to(at) - at))
