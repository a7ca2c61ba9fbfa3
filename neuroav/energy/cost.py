"""Estimates of energy: published prices as data, and what they make of counted operations.

Every figure that comes from here is an estimate. No table is right for a machine that it was not made for: prices
differ in what they contain, and tables by a factor of a thousand. So each :class:`Price` carries its node, its
definition and its source, each estimate names its table and what it leaves out, and they are read together, as a range
over :data:`TABLES`. A product has the price of the numbers that it multiplies, float32, 16 bits or int8; where a table
has no such price, the estimate says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from neuroav.energy.count import OpCount, Rule

PJ = 1e-12
SRAM_BYTES = 4  # of one access in [lemaire2022]; the prices of [horowitz2014] are those of 8 bytes
DRAM_BYTES = 8


@dataclass(frozen=True)
class Source:
    """Where a number was printed.

    Attributes:
        text: Authors, title or journal, year, and the table or figure.
        doi: Digital object identifier, or ``arXiv:`` and its number.
    """

    text: str
    doi: str


HOROWITZ = Source("Horowitz, Computing's energy problem, ISSCC 2014, Fig. 1.1.9", "10.1109/ISSCC.2014.6757323")
LEMAIRE = Source("Lemaire et al., An analytical estimation of SNN energy efficiency, 2022", "arXiv:2210.13107")
SENECA = Source("Tang et al., SENECA, Front. Neurosci. 17, 2023, Table 3", "10.3389/fnins.2023.1187252")
LOIHI = Source("Davies et al., Loihi, IEEE Micro 38(1), 2018, Table 2", "10.1109/MM.2018.112130359")
MEROLLA = Source("Merolla et al., Science 345, 2014", "10.1126/science.1254642")
STEP = Source("Shen et al., STEP, 2025: 3.12 pJ per bit, as SpikingJelly 2.0 quotes and uses it", "arXiv:2505.11151")


THIRD_PARTIES = "the print not seen, several third parties quote it alike"


@dataclass(frozen=True)
class Price:
    """One published number.

    Attributes:
        operation: What is paid for.
        value_pj: Energy of one in pJ.
        node: Technology.
        definition: What the number contains, as far as its source says.
        source: Where it was printed.
    """

    operation: str
    value_pj: float
    node: str
    definition: str
    source: Source


@dataclass(frozen=True)
class Estimate:
    """What one table makes of a count, per clip: an estimate.

    Attributes:
        table: Its name.
        low_j: Joules at the least.
        high_j: Joules at the most.
        node: Technology.
        low_means: What the lower end contains.
        high_means: What the upper end contains.
        source: Where the prices were printed.
        note: Which products have the price of other numbers, because the table has none for theirs.
    """

    table: str
    low_j: float
    high_j: float
    node: str
    low_means: str
    high_means: str
    source: str
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As one entry of ``estimates`` in a row."""
        return {"kind": "estimate", **vars(self)}


class Table(Protocol):
    """Prices that belong together, and how they are applied."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every number used."""
        ...

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Energy of a clip."""
        ...


def _sources(prices: Sequence[Price]) -> str:
    return "; ".join(dict.fromkeys(f"{each.source.text} ({each.source.doi})" for each in prices))


# ------------------------------------------------------------------------------------------------------- the machines


@dataclass(frozen=True)
class Arithmetic:
    """Additions and multiplications alone, as most papers count: no memory, no control, no leakage.

    Attributes:
        name: Of the table.
        add: Price of an addition.
        multiply: Price of a multiplication.
        narrower: Prices of products in narrower numbers, by what PyTorch calls these.
    """

    name: str
    add: Price
    multiply: Price
    narrower: tuple[tuple[str, Arithmetic], ...] = ()

    @property
    def prices(self) -> tuple[Price, ...]:
        """Both numbers, and the narrower ones."""
        return self.add, self.multiply, *(price for _, each in self.narrower for price in each.prices)

    @property
    def number(self) -> str:
        """What is added and multiplied at these prices."""
        return self.add.operation.removesuffix(" addition")

    def of(self, number: str) -> Arithmetic:
        """Prices of products in such numbers: their own, or else these."""
        return dict(self.narrower).get(number, self)

    def note(self, cost: OpCount) -> str:
        """Say which products have the price of other numbers than their own."""
        priced = {number: self.of(number).number for number in cost.by_number("binary")}
        return "; ".join(f"{own} products at {price} prices" for own, price in priced.items() if own != price)

    def work_pj(self, cost: OpCount, rule: Rule) -> float:
        """Energy of all products, each at the price of its numbers."""
        works = cost.by_number(rule).items()
        return sum(self.of(number).products_pj(work.macs, work.acs) for number, work in works)

    def products_pj(self, macs: float, acs: float) -> float:
        """Energy of multiply-accumulates and accumulates."""
        return macs * (self.add.value_pj + self.multiply.value_pj) + acs * self.add.value_pj

    def between_pj(self, cost: OpCount) -> float:
        """Energy of what lies between the products, in float32 whatever these are; see :meth:`estimate`."""
        return self.products_pj(cost.neuron_updates, cost.neuron_updates + cost.elementwise_ops)

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Products alone, up to all arithmetic.

        All arithmetic: a neuron update as a multiply-accumulate (leak) and an addition (threshold), an element-wise
        operation as an addition.
        """
        low = self.work_pj(cost, rule)
        return Estimate(
            table=self.name,
            low_j=low * PJ,
            high_j=(low + self.between_pj(cost)) * PJ,
            node=self.add.node,
            low_means="products alone",
            high_means="and neuron updates, element-wise operations; no memory",
            source=_sources(self.prices),
            note=self.note(cost),
        )


@dataclass(frozen=True)
class BytesMoved:
    """Arithmetic, and one price for every byte that moves.

    Attributes:
        name: Of the table.
        arithmetic: Prices of additions and multiplications.
        byte: Price of a byte.
    """

    name: str
    arithmetic: Arithmetic
    byte: Price

    @property
    def prices(self) -> tuple[Price, ...]:
        """All numbers."""
        return *self.arithmetic.prices, self.byte

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Each weight read once a clip, up to a weight read for each operation and inputs read as well."""
        work, low = cost.under(rule), self.arithmetic.estimate(cost, rule)
        fewest = min(cost.stored_bytes, work.weight_bytes) + cost.state_bytes
        most = work.weight_bytes + cost.state_bytes + work.input_bytes
        return Estimate(
            table=self.name,
            low_j=low.low_j + fewest * self.byte.value_pj * PJ,
            high_j=low.high_j + most * self.byte.value_pj * PJ,
            node=self.byte.node,
            low_means="products, states, each weight read once",
            high_means="all arithmetic, states, inputs, a weight read for each operation",
            source=_sources(self.prices),
            note=self.arithmetic.note(cost),
        )


@dataclass(frozen=True)
class OnChipMemory:
    """Integer arithmetic, and SRAM whose price grows with its size: one memory for the weights of each layer.

    After [lemaire2022]. Differs from the paper: addressing is left out; partial sums of multiply-accumulates stay in
    registers; states lie in one memory for each layer of neurons; memories above the largest size priced cost as much
    as that one.

    Attributes:
        name: Of the table.
        arithmetic: Prices of additions and multiplications.
        sram: Pairs of a size in bytes and the price of one access to it, ascending.
    """

    name: str
    arithmetic: Arithmetic
    sram: tuple[tuple[int, Price], ...]

    @property
    def prices(self) -> tuple[Price, ...]:
        """All numbers."""
        return *self.arithmetic.prices, *(price for _, price in self.sram)

    def byte_pj(self, size: float) -> float:
        """Energy of one byte from a memory of so many bytes, linear between the sizes that are priced."""
        below, below_pj = 0, 0.0
        for above, price in self.sram:
            if size <= above:
                return (below_pj + (price.value_pj - below_pj) * (size - below) / (above - below)) / SRAM_BYTES
            below, below_pj = above, price.value_pj
        return below_pj / SRAM_BYTES

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Each weight read once a clip, up to a weight for each operation and a membrane for each accumulate."""
        low = high = 0.0
        for row in cost.products:
            work, byte = getattr(row, rule), self.byte_pj(row.stored_bytes)
            inputs = work.input_bytes * self.sram[0][1].value_pj / SRAM_BYTES
            low += inputs + min(row.stored_bytes, work.weight_bytes) * byte
            high += inputs + work.weight_bytes * byte
            high += 2 * SRAM_BYTES * work.acs * self.sram[0][1].value_pj / SRAM_BYTES
        for layer in cost.neurons:
            state = layer.state_bytes / max(1, 2 * len(layer.rate_per_step))
            low += layer.state_bytes * self.byte_pj(state)
            high += layer.state_bytes * self.byte_pj(state)
        sums = self.arithmetic.estimate(cost, rule)
        return Estimate(
            table=self.name,
            low_j=sums.low_j + low * PJ,
            high_j=sums.high_j + high * PJ,
            node=self.arithmetic.add.node,
            low_means="products, inputs, states, each weight read once",
            high_means="all arithmetic, inputs, states, a weight for each operation, a membrane for each accumulate",
            source=_sources(self.prices),
            note=self.arithmetic.note(cost),
        )


@dataclass(frozen=True)
class OffChipMemory:
    """Arithmetic, and every weight fetched once a clip from DRAM: batch 1, nothing kept between clips.

    Attributes:
        name: Of the table.
        arithmetic: Prices of additions and multiplications.
        low: Price of one access at the least.
        high: Price of one access at the most.
    """

    name: str
    arithmetic: Arithmetic
    low: Price
    high: Price

    @property
    def prices(self) -> tuple[Price, ...]:
        """All numbers."""
        return *self.arithmetic.prices, self.low, self.high

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Lower and upper price of the accesses."""
        sums, accesses = self.arithmetic.estimate(cost, rule), cost.stored_bytes / DRAM_BYTES
        return Estimate(
            table=self.name,
            low_j=sums.low_j + accesses * self.low.value_pj * PJ,
            high_j=sums.high_j + accesses * self.high.value_pj * PJ,
            node=self.low.node,
            low_means="products, all weights from DRAM once at the lower price",
            high_means="all arithmetic, all weights from DRAM once at the upper price",
            source=_sources(self.prices),
            note=self.arithmetic.note(cost),
        )


@dataclass(frozen=True)
class Chip:
    """A neuromorphic chip by its published price of a synaptic operation.

    Attributes:
        synop: Price of a synaptic operation.
        neuron: Price of a neuron update, where one is published apart.
    """

    synop: Price
    neuron: Price | None = None

    @property
    def name(self) -> str:
        """Of the table: the chip's."""
        return self.synop.operation.removesuffix(", synaptic operation")

    @property
    def prices(self) -> tuple[Price, ...]:
        """Its numbers."""
        return (self.synop,) if self.neuron is None else (self.synop, self.neuron)

    def estimate(self, cost: OpCount, rule: Rule) -> Estimate:
        """Every product as a synaptic operation, zeros skipped, up to those of real numbers with their zeros.

        At the least so: a chip whose events carry a value pays about as much for each of them; one of binary spikes
        can't run layers that read real numbers at all.
        """
        work = cost.under(rule)
        neurons = 0.0 if self.neuron is None else cost.neuron_updates * self.neuron.value_pj
        return Estimate(
            table=self.name,
            low_j=(cost.synops * self.synop.value_pj + neurons) * PJ,
            high_j=((work.acs + work.macs) * self.synop.value_pj + neurons) * PJ,
            node=self.synop.node,
            low_means="SynOps of every layer, those that read real numbers among them",
            high_means="accumulates, and multiply-accumulates with their zeros, as synaptic operations",
            source=_sources(self.prices),
            note=f"{', '.join(cost.by_number(rule))} products at the price of the chip's own numbers",
        )


# --------------------------------------------------------------------------------------------------------- the numbers


def _horowitz(operation: str, value_pj: float, definition: str = "the arithmetic unit alone") -> Price:
    return Price(operation, value_pj, "45 nm, 0.9 V", definition, HOROWITZ)


FP32 = Arithmetic("45 nm, float32", _horowitz("float32 addition", 0.9), _horowitz("float32 multiplication", 3.7))
FP16 = Arithmetic("45 nm, float16", _horowitz("float16 addition", 0.4), _horowitz("float16 multiplication", 1.1))
INT8 = Arithmetic("45 nm, int8", _horowitz("int8 addition", 0.03), _horowitz("int8 multiplication", 0.2))
INT32 = Arithmetic("45 nm, int32", _horowitz("int32 addition", 0.1), _horowitz("int32 multiplication", 3.1))
NARROWER = (("float16", FP16), ("bfloat16", FP16), ("int8", INT8))
OWN = replace(FP32, name="45 nm, float32", narrower=NARROWER)  # each product at the price of its own numbers
OWN_INTEGERS = replace(INT32, narrower=(("int8", INT8),))

_SRAM = tuple(
    (size, Price(f"SRAM access, {text}", value, "45 nm, 0.9 V", "32 bits, as read by [lemaire2022]", LEMAIRE))
    for size, text, value in ((2**13, "8 kB", 10.0), (2**15, "32 kB", 20.0), (2**20, "1 MB", 100.0))
)
_PER_BYTE = Price("byte moved", 24.96, "not stated", "a byte of weights or of membranes, read or written", STEP)
_DRAM_ENDS = (("low", 1300.0), ("high", 2600.0))
_DRAM = tuple(_horowitz(f"DRAM access, {end}", value, f"64 bits; {THIRD_PARTIES}") for end, value in _DRAM_ENDS)

ACTIVE = "as quoted there; whether leakage and neuron updates are in it differs from chip to chip"
LOIHI_UPDATE = f"an active neuron, one step (52 pJ an inactive one); simulated, 0.75 V; {THIRD_PARTIES}"
TRUENORTH_EVENT = (
    "whole chip over events at one operating point, leakage included: 72 mW, 20 Hz, 128 synapses a neuron, 0.775 V; "
    f"at other rates it is off by up to a few times; {THIRD_PARTIES}"
)


def _chip(name: str, value_pj: float, node: str, source: Source = SENECA, definition: str = ACTIVE) -> Price:
    return Price(f"{name}, synaptic operation", value_pj, node, definition, source)


TABLES: tuple[Table, ...] = (
    OWN,
    BytesMoved("45 nm, float32, 24.96 pJ per byte", OWN, _PER_BYTE),
    OnChipMemory("45 nm, int32, SRAM by size", OWN_INTEGERS, _SRAM),
    OffChipMemory("45 nm, float32, weights in DRAM", OWN, *_DRAM),
    Chip(
        _chip("Loihi", 23.6, "14 nm", LOIHI, "one spike at one synapse, at the least; simulated, 0.75 V"),
        Price("Loihi, neuron update", 81.0, "14 nm", LOIHI_UPDATE, LOIHI),
    ),
    Chip(_chip("SpiNNaker", 45.0, "130 nm")),
    Chip(_chip("SpiNNaker 2", 10.0, "22 nm")),
    Chip(_chip("TrueNorth (Akopyan 2015)", 2.5, "28 nm")),
    Chip(_chip("TrueNorth (Merolla 2014)", 26.0, "28 nm", MEROLLA, TRUENORTH_EVENT)),
    Chip(_chip("Tianjic", 1.54, "28 nm")),
    Chip(_chip("NeuronFlow", 20.0, "28 nm")),
    Chip(_chip("ODIN", 12.7, "28 nm")),
    Chip(_chip("ReckOn", 5.3, "28 nm")),
    Chip(_chip("uBrain", 26.0, "40 nm")),
    Chip(_chip("SENECA", 2.8, "22 nm")),
)


def estimates(cost: OpCount, rule: Rule, tables: Sequence[Table] = TABLES) -> list[Estimate]:
    """Energy of a clip by every table: estimates.

    Example:
        >>> import torch
        >>> from neuroav.energy import count
        >>> cost = count(torch.nn.Linear(1000, 1000).eval(), torch.ones(1, 1000))
        >>> found = estimates(cost, "binary", (OWN,))[0]
        >>> f"{found.low_j:.3g} J"  # a million accumulates of 0.9 pJ
        '9e-07 J'
    """
    return [table.estimate(cost, rule) for table in tables]


# -------------------------------------------------------------------------------------------------------- break-even


@dataclass(frozen=True)
class BreakEven:
    """A published limit below which a spiking network needs less energy than its non-spiking counterpart.

    Attributes:
        quantity: ``"spike_rate"`` (spikes per neuron and step) or ``"spikes_per_synapse"`` (per clip).
        low: The limit, or the lowest of several.
        high: The highest.
        condition: What it was found for.
        source: Where it was printed.
    """

    quantity: str
    low: float
    high: float
    condition: str
    source: Source

    def against(self, cost: OpCount) -> dict[str, Any]:
        """The limit beside a network's own figure: ``below``, ``between``, ``above``, or ``no spikes``."""
        own = getattr(cost, self.quantity)
        verdict = "no spikes"
        if own is not None:
            verdict = "below" if own < self.low else "above" if own > self.high else "between"
        limits = {"quantity": self.quantity, "low": self.low, "high": self.high, "condition": self.condition}
        return {**limits, "own": own, "verdict": verdict, "source": f"{self.source.text} ({self.source.doi})"}


_YAN = "Yan et al., Reconsidering the energy efficiency of SNNs"
BREAK_EVEN = (
    BreakEven(
        "spikes_per_synapse",
        0.15,
        1.38,
        "IF neurons, memory accesses included; by the design of the non-spiking network",
        Source(
            "Dampfhoffer et al., Are SNNs really more energy-efficient than ANNs?, IEEE TETCI 7(3), 2023",
            "10.1109/TETCI.2022.3214509",
        ),
    ),
    BreakEven(
        "spike_rate",
        0.057,
        0.057,
        "T = 5, against a quantised network of as many levels; data movement included",
        Source(f"{_YAN}, version 4, 2026", "arXiv:2409.08290v4"),
    ),
    BreakEven(
        "spike_rate",
        0.064,
        0.064,
        "T of 5 to 10, against a quantised network of as many levels; data movement included",
        Source(f"{_YAN}, versions 2 and 3", "arXiv:2409.08290v3"),
    ),
)
