// What a chart of costs has to draw: a line at 0 would say that something of unknown price was free.

/** Whether anything of a series, `{values}`, cost something. */
export const isPaid = ({ values }) => values.some((value) => value > 0);

/** What stands in the place of the chart if nothing did; `total` is null if no price is known. */
export const nothingPaid = ({ total }) => (total === null ? "Nothing with a known price in this time." : "Nothing cost anything in this time.");
