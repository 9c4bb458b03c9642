"""A trained classifier's verdict on a generative model's samples."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from dataclasses import dataclass

from research.engine.errors import UserError
from research.engine.objective import HasGenerate, Objective, Variables
from jaxtyping import PRNGKeyArray
