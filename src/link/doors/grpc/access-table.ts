/**
 * Who may call what: every method of every service, once. A method that is not here does not compile, and one that
 * is not known at run time is refused. `public` needs nothing, `certificate` a node certificate on the connection
 * (checked by the sessions room), `token` a valid operator token.
 */
import type { ControlService } from '../../../protocol/generated/rollcall/v1/control.js';
import type { EnrollmentService } from '../../../protocol/generated/rollcall/v1/enrollment.js';
import type { LinkService } from '../../../protocol/generated/rollcall/v1/link.js';

export type Access = 'public' | 'certificate' | 'token';

type PathsOf<Service> = {
  [Method in keyof Service]: Service[Method] extends { path: infer Path } ? Path : never;
}[keyof Service];
export type MethodPath = PathsOf<EnrollmentService> | PathsOf<LinkService> | PathsOf<ControlService>;

export const accessTable: Readonly<Record<MethodPath, Access>> = {
  '/rollcall.v1.Enrollment/Enroll': 'public',
  '/rollcall.v1.Link/Connect': 'certificate',
  '/rollcall.v1.Control/RegisterNode': 'token',
  '/rollcall.v1.Control/GetNode': 'token',
  '/rollcall.v1.Control/ListNodes': 'token',
  '/rollcall.v1.Control/RevokeNode': 'token',
  '/rollcall.v1.Control/ListNodeHistory': 'token',
  '/rollcall.v1.Control/WatchNodes': 'token',
};
