"""The stores from which an erasure deletes."""

from datetime import timedelta

from msgspec import Struct

from headwater.base.clock import Clock
from headwater.catalog import Catalog
from headwater.log import EventLog
from headwater.state import StateStore
from headwater.state.deliveries import DeliveryStore
from headwater.state.lanestore import LaneStore
from headwater.state.operations import OperationStore
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.state.runs import RunStore
from headwater.warehouse import Warehouse


class Stores(Struct, frozen=True, kw_only=True):
    """The stores of one installation; None for those that it does not have."""

    log: EventLog
    catalog: Catalog
    state: StateStore
    warehouse: Warehouse
    operations: OperationStore
    clock: Clock
    keep: timedelta
    """Time for which entries stay in the log after every consumer has finished them."""
    deliveries: DeliveryStore | None
    lanes: LaneStore | None
    runs: RunStore | None
    updater: ProfileUpdater
    """Takes erased identities out of their profiles."""
