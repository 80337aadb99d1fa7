"""FHIR R4 in and out, after India's NRCeS profiles. Pure: JSON values in, JSON values out; no clock, no file.

    names       the tables of codes, each stated once and used in both directions
    taking      one resource, walked without trust, that knows which of its elements nobody took
    datatypes   the small shapes: coded values, times, references, and the extension that carries a field of ours
    drafts      what is read of one value: its resources, how they name each other, the records they become
    measuring   Observations, both ways
    persons     a patient, a member of staff, a centre: the way in
    ordering    referrals, orders, prescriptions, appointments: the way in
    arriving    what each type of resource means for a record: the other types, and the table of all
    reading     a resource or a Bundle -> lines of an import, and the list of what has no place
    leaving     a record as resources: the way out
    writing     the records of a patient -> Bundles of type document

The mapping is told in FHIR.md beside this file. Two rules carry it. *In*: every element is taken or listed, and a
record's id is the hash of the facility and of what names the resource there. *Out*: a document is read again by
`reading` before it leaves, and each field that its standard elements do not give back exactly goes along as an
extension; so what goes out comes back unchanged, whatever the mapping forgot.
"""
